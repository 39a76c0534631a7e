"""CUDA text to text that g++ takes: the few places where a macro cannot help."""

import re

KEYWORD = re.compile(r"\b(__shared__|__launch_bounds__)\b")
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.S)
ALIGN = re.compile(r"(?:__align__|alignas)\s*\(\s*(\d+)\s*\)")


class SourceError(RuntimeError):
    """The text is not something that the emulator, or NVRTC, can compile."""


def blank_comments(text: str) -> str:
    """The text with spaces in the place of comments and strings; every character keeps its place."""
    return COMMENT_OR_STRING.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def translate(text: str) -> str:
    """Rewrite `__shared__` declarations and `__launch_bounds__`; line numbers stay as they are."""
    plain = blank_comments(text)
    include = re.search(r"^[ \t]*#[ \t]*include\b.*", plain, re.M)
    if include:
        raise SourceError(
            f"NVRTC has no headers to include, and CuPy's cache does not see them: {include[0].strip()!r}"
        )
    edits: list[tuple[int, int, str]] = []
    for m in KEYWORD.finditer(plain):
        edits += _shared(plain, m) if m[1] == "__shared__" else _launch_bounds(plain, m)
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + "\n" * text.count("\n", start, end) + text[end:]
    return text


def _shared(text: str, m: re.Match) -> list[tuple[int, int, str]]:
    """Turn the declaration around one `__shared__` into EMU_SHARED(name, alignment, type name_t[dims]), one a name."""
    start = m.start()
    before = re.search(r"(\b(?:extern|static)\s+)+$", text[:start])
    external = bool(before) and "extern" in before[0]
    if before:
        start = before.start()
    end = text.index(";", m.end()) + 1
    declaration = " ".join(text[start : end - 1].split())
    align = ALIGN.search(declaration)
    body = re.sub(r"\b(extern|static|__shared__)\b", "", ALIGN.sub("", declaration)).strip()
    first, *others = _split(body)
    whole = re.fullmatch(r"(.*?[\w>*&])\s*(?:(?<=[>*&])|\s)\s*(\w+)\s*((?:\[[^\]]*\]\s*)*)", first)
    if not whole:
        raise SourceError(f"cannot read this declaration: {declaration!r}")
    kind, name, dims = whole.groups()
    if external:
        if dims.replace(" ", "") != "[]" or others:
            raise SourceError(f"dynamic shared memory is `extern __shared__ T name[];`, not {declaration!r}")
        return [(start, end, f"{kind}* {name} = ({kind}*)emu_dynamic_shared();")]
    new = []
    for part in [f"{name}{dims}", *others]:
        name = re.match(r"\s*(\w+)", part)[1]
        new.append(f"EMU_SHARED({name}, {align[1] if align else 0}, {kind} {name}_t{part.strip()[len(name) :]})")
    return [(start, end, " ".join(new))]


def _launch_bounds(text: str, m: re.Match) -> list[tuple[int, int, str]]:
    """Move the bound of a kernel to a check at the head of its body."""
    close = _closing(text, text.index("(", m.end()))
    bound = _split(text[text.index("(", m.end()) + 1 : close])[0]
    brace = text.find("{", close)
    if brace < 0 or ";" in text[close:brace]:
        return [(m.start(), close + 1, "")]  # a declaration without a body
    return [(m.start(), close + 1, ""), (brace + 1, brace + 1, f" emu_launch_bounds(({bound}), __FILE__, __LINE__);")]


def _closing(text: str, opening: int) -> int:
    depth = 0
    for i in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise SourceError("unbalanced parentheses")


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside every bracket."""
    parts, depth = [""], 0
    for c in text:
        depth += {"(": 1, "[": 1, "<": 1, ")": -1, "]": -1, ">": -1}.get(c, 0)
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts
