# SPDX-License-Identifier: Apache-2.0
"""Rules about accelerators: when one is reset, waited for, given up, and what becomes of its jobs."""
from table import table

DEVICE = "meson:accel_device"
DRIVER = "meson:accel_driver"

MUTANTS = table(
    "accel", "src/accel/",
    ("late-jobs", "jobs that had no answer in time end as timed out", "device.c",
     "    actions.what |= DEVICE_EXPIRE;\n", "", DEVICE, DRIVER),
    ("payloads-fault", "a failed decompression is not held against the device", "device.c",
     " && e->work == ACCEL_COMPRESS", "", DEVICE),
    ("fails-every-job", "a device that fails four compressions in a row is reset", "device.c",
     "s->failing >= DEVICE_MAX_FAILED_IN_A_ROW", "0", DEVICE),
    ("resets", "a device that was reset too often is lost", "device.c",
     " || s->resets >= DEVICE_MAX_RESETS", "", DEVICE),
    ("failures", "a device that fails again and again without a job done is lost", "device.c",
     "s->failures >= DEVICE_MAX_FAILURES || ", "", DEVICE),
    ("longer-waits", "each attempt to start a device waits longer than the last", "device.c",
     "wait *= 2;", "wait *= 1;", DEVICE),
    ("blames", "the third blame ends a device's use", "device.c",
     ">= ACCEL_MAX_BLAMES", "> ACCEL_MAX_BLAMES", DEVICE, DRIVER),
    ("answers-first", "what was answered before the device broke has its result", "driver.c",
     "(slot = unit_take_answered(d->unit)) != NULL;)", "rc == 0 && (slot = unit_take_answered(d->unit)) != NULL;)",
     DRIVER),
    ("reset-ends-jobs", "the jobs of a device that is reset end", "driver.c",
     "    end_all(a, d, ACCEL_RESET);\n", "", DRIVER),
    ("first-deadline", "a job whose deadline is the first wakes the thread", "driver.c",
     ".due = slot->deadline }) < a->armed)", ".due = slot->deadline }) < 0)", DRIVER),
    ("one-answer", "a job is answered once", "unit.c",
     "slot->state != SLOT_IN_FLIGHT || slot->serial != r->serial", "slot->serial != r->serial", DRIVER),
)
