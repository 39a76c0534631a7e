"""Other packages' signatures on ntsolve's solvers, so that code written for them changes one import."""
