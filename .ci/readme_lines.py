"""Runs the README's first Python block, the lines that load and ask a composite, on the composite that is given.

usage: readme_lines.py README COMPOSITE
"""

import re
import sys
from pathlib import Path

readme, composite = sys.argv[1:]
block = re.search(r"```python\n(.*?)```", Path(readme).read_text(encoding="utf-8"), re.DOTALL)
assert block, f"{readme} has no Python block"
folder = re.search(r"""from_pretrained\(["']([^"']+)["']""", block[1])
assert folder, f"the first Python block of {readme} loads no composite:\n{block[1]}"
lines = block[1].replace(folder[1], composite)
print(lines)
exec(compile(lines, readme, "exec"), {"__name__": "__main__"})
