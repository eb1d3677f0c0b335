#!/usr/bin/env bash
# torch 2.13.0 on a CPU with bf16 instructions: a bf16 product with one row more or less than any before is compiled anew.
#
# A linear layer over 200 tokens is fast the second time; over 201 tokens it is slow again, once, because oneDNN makes code
# for the exact number of rows. A backward product suffers most. So a loop over batches of many lengths, as training on text
# has them, spends a share of its time compiling that no profile of operators shows by itself ("mm" merely takes longer).
# oneDNN's own documentation tells that it compiles and that it keeps a limited number of such codes ("Primitive Cache"); who
# reads torch's `nn.Linear` meets nothing of it. Widths rounded up to a multiple of four, and counts of labels to one of
# sixteen, make shapes repeat. The same products in fp32 were never compiled.
#
# Seen (Intel Xeon with AVX512-BF16 and AMX, one thread): of [rows, 576] by [576, 1536] for 30 numbers of rows, 30 were
# compiled where rows were new and none where they were not; the first call took 1.7 ms and the second 0.5 to 0.8, the
# product back 4.2 and 0.5. On a CPU without bf16 instructions this says nothing and ends without a word on the behaviour.
set -euo pipefail
if ! grep -q -m1 'avx512_bf16\|amx_bf16' /proc/cpuinfo; then
  echo "this CPU has no bf16 instructions, so there is nothing to see here"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
cat > "$work/products.py" <<'PYTHON'
import sys
import time

import torch

torch.set_num_threads(1)
weight = torch.randn(1536, 576).bfloat16()


def seconds(rows, back):
    x = torch.randn(rows, 1536 if back else 576).bfloat16()
    began = time.perf_counter()
    x @ (weight if back else weight.T)
    return time.perf_counter() - began


for back in (False, True):
    seconds(150, back)
    print("new", flush=True)
    first = [seconds(rows, back) for rows in range(200, 230)]
    print("known", flush=True)
    again = [seconds(rows, back) for rows in range(200, 230)]
    print("end", flush=True)
    middle = [sorted(times)[15] * 1000 for times in (first, again)]
    print(f"{'back' if back else 'forward'}: {middle[0]:.2f} ms for a new number of rows, {middle[1]:.2f} again", file=sys.stderr)
PYTHON
ONEDNN_VERBOSE=profile_create "$work/venv/bin/python" "$work/products.py" >"$work/told"
"$work/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
awk '/^new|^known|^end/ {at = $1} /primitive,create:cache_miss/ {misses[at]++} END {
  printf "compiled: %d for new numbers of rows, %d for known ones (of 60 each)\n", misses["new"], misses["known"]
  seen = misses["new"] >= 60 && misses["known"] == 0
  print seen ? "as described" : "THIS HAS CHANGED"
  exit !seen }' "$work/told"
