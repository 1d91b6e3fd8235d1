# SPDX-License-Identifier: Apache-2.0
"""Test equipment of godwit: guests, hosts, the engine, and what proves that nothing was lost.

    places     where binaries and build products are
    process    child processes that never outlive the test
    qmp        a QMP client
    qemu       a real guest under QEMU
    stunt      the stunt guest
    serial     what a guest says, with the host's time on every line
    netns      two hosts with a shaped link between them
    hugepages  huge pages for a while
    engine     godwit itself, one side or both
    wire       what two godwits say to each other, as bytes
    peer       a godwit that is none, to tell lies to the real one: peer_destination, peer_source
    oracle     compares RAM and disks byte by byte
    silence    how long a guest was not heard, and whether it went on where it was
    clean      that nothing is left behind
    stock      QEMU's own migration, to compare with
    cpu        CPU seconds of processes
"""
