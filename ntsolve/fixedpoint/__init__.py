"""Fixed points: Halpern's iteration, finite sums, linear programs.

Fixed points
    halpern, monotone, finite_sum   the public functions, each with its iteration
    loop, schedule, trees           what they share: the loop; when to restart; arrays in tuples and dicts

Linear programs
    linprog, arguments, result      the public function and its loop; what is passed in; what comes back
    program, presolve, scaled       the form inside; what is plain beforehand; the units of the iteration
    propagation                     contradictions between rows and bounds, likewise
    pdhg                            the iteration, for all programs of a batch
    attempts                        what is tried besides, now and then:
    polish                              feasibility polishing
    interior                            the rest of the way, where factors are cheap: an interior point method
    finisher, proximal                  the last digits: proximal point steps by a semismooth Newton method
    newtonsystem                        the factors of both
    infeasible, certificates            proofs that there is no feasible point, or no lower bound
    kkt                             the errors that decide on success
    rowsolve                        one program over ranks that have rows of it:
    rowblocks, rowpdhg                  its errors, units and proofs; its iteration

Files
    mps, mpsformat                  linear programs from MPS files; the lines of such a file
"""
