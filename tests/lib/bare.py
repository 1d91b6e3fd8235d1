# SPDX-License-Identifier: Apache-2.0
"""A stock QEMU that has nothing but its BIOS: there at once, and enough where the guest's own work does not matter."""
from gwtest import qemu
from gwtest.qemu import MIB


class Bare(qemu.Guest):
    def __init__(self, directory, memory=64 * MIB, memory_args=None, edit=None, **options):
        """
        memory_args  what stands for RAM on the command line, instead of a shared file
        edit         edit(list of arguments) gives the arguments that QEMU gets
        """
        self._instead = memory_args
        self._edit = edit
        super().__init__(directory, memory=memory, **options)

    def _memory_args(self, machine, numa):
        return self._instead or super()._memory_args(machine, numa)

    def _boot_args(self, kernel_args):
        return []

    def _start(self):
        if self._edit:
            self.args = self._edit(self.args)
        super()._start()
