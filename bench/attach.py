# SPDX-License-Identifier: Apache-2.0
"""How long a guest's VMM stands still while godwit attaches to it."""
import shutil
import statistics
import tempfile

from gwtest import engine, qemu

ROUNDS = 20


def run(options):
    directory = tempfile.mkdtemp(prefix="godwit-bench-", dir="/dev/shm")
    times = []
    try:
        with qemu.Guest(directory, "source", memory=512 * qemu.MIB, load={"mem": 200, "rate": 20000}) as guest:
            guest.wait_ready()
            for i in range(ROUNDS):
                with guest.destination(name=f"destination{i}") as there:
                    # Cancelled right after it has attached: the guest stays, for the next round.
                    with engine.Migration(guest, there, fault="fail@ram-full") as migration:
                        sent, _ = migration.wait()
                    times.append(sent.report["attach-stop"])
                    there.remove()
    finally:
        shutil.rmtree(directory)
    journal = options.journal
    journal.add("attach", "idle", "godwit", journal.next_pair("attach"), {"times": times})
    print(f"\nattach: QEMU's thread stood still for {statistics.median(times):.3f} ms (median of {len(times)}; "
          f"{min(times):.3f}..{max(times):.3f})", flush=True)
