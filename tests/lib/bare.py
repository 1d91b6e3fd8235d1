# SPDX-License-Identifier: Apache-2.0
"""A stock QEMU that has nothing but its BIOS: there at once, and enough where the guest's own work does not matter."""
from gwtest import qemu
from gwtest.qemu import MIB


class Bare(qemu.Guest):
    def __init__(self, directory, memory=64 * MIB, edit=None, **options):
        """
        edit         edit(list of arguments) gives the arguments that QEMU gets
        """
        self._edit = edit
        super().__init__(directory, memory=memory, **options)

    def _boot_args(self, kernel_args):
        return []

    def _start(self):
        if self._edit:
            self.args = self._edit(self.args)
        super()._start()
