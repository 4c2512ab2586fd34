"""Checks that what Markdown files link to inside the repository exists, headings included."""

import pathlib
import re
import sys


def prose(path):
    """The text without code blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)


def anchors(path):
    """The anchors that a page's headings get."""
    headings = re.findall(r"^#+ +(.*)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def dead_links(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(path))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        page = path.parent / file if file else path
        if not page.exists() or (anchor and page.suffix == ".md" and anchor not in anchors(page)):
            yield f"{path}: {target}"


pages = [*pathlib.Path().glob("*.md"), *pathlib.Path("docs").rglob("*.md")]
dead = [link for page in pages for link in dead_links(page)]
print(f"{len(pages)} pages, {len(dead)} dead links")
print("\n".join(dead), file=sys.stderr, end="\n" if dead else "")
sys.exit(1 if dead or not pages else 0)
