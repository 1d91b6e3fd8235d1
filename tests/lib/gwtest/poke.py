# SPDX-License-Identifier: Apache-2.0
"""Writes into the memory of another process: by a call that waits for whoever serves a write-protected page, which
/proc/PID/mem does not (it fails)."""
import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


class _Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


def poke(pid, address, data):
    buffer = ctypes.create_string_buffer(bytes(data), len(data))
    local, remote = _Piece(ctypes.addressof(buffer), len(data)), _Piece(address, len(data))
    _libc.process_vm_writev.restype = ctypes.c_ssize_t
    done = _libc.process_vm_writev(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    if done != len(data):
        raise OSError(ctypes.get_errno(), f"{done} of {len(data)} bytes: {os.strerror(ctypes.get_errno())}")
