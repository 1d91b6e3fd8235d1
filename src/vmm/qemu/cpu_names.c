/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's names of CPUID bits, as -cpu takes them: feature-words gives only numbers. A bit that is not here is named by
 * its place; to leave one out costs a reader some time and no guest its life.
 */
#include "vmm/qemu/cpu.h"

#include <stdio.h>
#include <string.h>

/* From bit 0 on, separated by spaces; "-" for a bit without a name. */
static const struct {
    const char *word, *names;
} table[] = {
    { "1:EDX",
      "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - ds acpi mmx fxsr "
      "sse sse2 ss ht tm ia64 pbe" },
    { "1:ECX", "pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - fma cx16 xtpr pdcm - pcid dca sse4.1 "
               "sse4.2 x2apic movbe popcnt tsc-deadline aes xsave - avx f16c rdrand hypervisor" },
    { "7.0:EBX", "fsgsbase tsc-adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm - - mpx - avx512f avx512dq rdseed "
                 "adx smap avx512ifma pcommit clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni avx512bw "
                 "avx512vl" },
    { "7.0:ECX", "- avx512vbmi umip pku - waitpkg avx512vbmi2 - gfni vaes vpclmulqdq avx512vnni avx512bitalg - "
                 "avx512-vpopcntdq - la57 - - - - - rdpid - bus-lock-detect cldemote - movdiri movdir64b - sgxlc pks" },
    { "7.0:EDX",
      "- - avx512-4vnniw avx512-4fmaps fsrm - - - avx512-vp2intersect - md-clear - - - serialize - tsx-ldtrk "
      "- - arch-lbr - - amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp flush-l1d arch-capabilities "
      "core-capability ssbd" },
    { "7.1:EAX", "sha512 sm3 sm4 - avx-vnni avx512-bf16 - cmpccxadd - - fzrm fsrs fsrc - - - - fred lkgs wrmsrns - "
                 "amx-fp16 - avx-ifma" },
    { "d.1:EAX", "xsaveopt xsavec xgetbv1 xsaves xfd" },
    { "6:EAX", "- - arat" },
    { "80000001:EDX", "- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - fxsr-opt pdpe1gb rdtscp - lm "
                      "3dnowext 3dnow" },
    { "80000001:ECX",
      "lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit "
      "wdt - lwp fma4 tce - nodeid-msr - tbm topoext perfctr-core perfctr-nb" },
    { "80000007:EDX", "- - - - - - - - invtsc" },
    { "80000008:EBX", "clzero - xsaveerptr - - - - - - wbnoinvd - - ibpb - ibrs amd-stibp - - - - - - - - amd-ssbd "
                      "virt-ssbd amd-no-ssb" },
    { "8000000a:EDX", "npt lbrv svm-lock nrip-save tsc-scale vmcb-clean flushbyasid decodeassists - - pause-filter - "
                      "pfthreshold avic - v-vmsave-vmload vgif" },
    { "40000001:EAX", "kvmclock kvm-nopiodelay kvm-mmu kvmclock kvm-asyncpf kvm-steal-time kvm-pv-eoi kvm-pv-unhalt - "
                      "kvm-pv-tlb-flush - kvm-pv-ipi kvm-poll-control kvm-pv-sched-yield kvm-asyncpf-int "
                      "kvm-msi-ext-dest-id - - - - - - - - kvmclock-stable-bit" },
};

void cpu_bit_name(const char *word, unsigned bit, char *name, size_t size) {
    snprintf(name, size, "CPUID[%s] bit %u", word, bit);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].word, word) != 0) {
            continue;
        }
        const char *at = table[i].names;
        for (; bit > 0 && at != NULL; bit--) {
            at = strchr(at, ' ');
            at = at != NULL ? at + 1 : NULL;
        }
        if (at != NULL && *at != '-') {
            snprintf(name, size, "%.*s", (int)strcspn(at, " "), at);
        }
        return;
    }
}
