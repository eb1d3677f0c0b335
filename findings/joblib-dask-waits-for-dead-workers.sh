#!/usr/bin/env bash
# joblib 1.6.0: with the backend "dask", `Parallel` waits forever for a job whose workers died.
#
# Dask gives a job up once too many workers died while they ran it, for want of memory say, and raises KilledWorker. So
# does a future of the same client. `Parallel` under `parallel_config(backend="dask")` neither raises nor returns: the
# backend marks the job as failed, but does not call back, and `Parallel` waits for the call. A job that merely raises is
# told, so nothing warns of the difference. `timeout=` of `Parallel` ends the wait, with a TimeoutError that names no cause.
#
# Seen: the future raised KilledWorker; Parallel still waited after 20 s; of a job that raises it was told at once.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check joblib==1.6.0 dask==2026.8.0 distributed==2026.8.0 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import os
import signal
import threading
from importlib.metadata import version

import dask
from distributed import Client, LocalCluster
from joblib import Parallel, delayed, parallel_config


def die():
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out


def fail():
    raise KeyError("a mistake of the job's own")


def told(call):
    """The name of what `call` raises within 20 s, or "nothing"."""
    names = ["nothing"]

    def run():
        try:
            call()
        except Exception as error:
            names[0] = type(error).__name__

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    return names[0]


def by_joblib(client, job):
    with parallel_config(backend="dask", client=client):
        Parallel()([delayed(job)()])


if __name__ == "__main__":
    dask.config.set({"distributed.scheduler.allowed-failures": 0})
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50)
    client = Client(cluster)
    future = told(lambda: client.submit(die, pure=False).result())
    client.wait_for_workers(2)
    raising = told(lambda: by_joblib(client, fail))
    dying = told(lambda: by_joblib(client, die))
    print(f"joblib {version('joblib')}, distributed {version('distributed')}")
    print(f"a future of a job that kills its worker raises within 20 s: {future}")
    print(f"Parallel of a job that raises, raises within 20 s: {raising}")
    print(f"Parallel of a job that kills its worker raises within 20 s: {dying}")
    expected = (future, raising, dying) == ("KilledWorker", "KeyError", "nothing")
    print("as described" if expected else "THIS HAS CHANGED", flush=True)
    cluster.close()
    os._exit(not expected)  # the waiting thread would keep the process
PYTHON
"$work/venv/bin/python" "$work/finding.py"
