/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/cpu.h"

#include "vmm/qemu/query.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MAX 256 /* QEMU has some 25 */

/* What Windows is told of KVM; no CPUID word that QEMU shows holds them. */
static const char *const hyperv[] = {
    "hv-relaxed",     "hv-vapic",           "hv-time",   "hv-crash",         "hv-reset",        "hv-vpindex",
    "hv-runtime",     "hv-synic",           "hv-stimer", "hv-stimer-direct", "hv-tlbflush",     "hv-ipi",
    "hv-frequencies", "hv-evmcs",           "hv-avic",   "hv-xmm-input",     "hv-tlbflush-ext", "hv-tlbflush-direct",
    "hv-emsr-bitmap", "hv-reenlightenment",
};

/* Bits that say what the guest's kernel has set, or that repeat those of another word. */
static const struct {
    const char *word;
    uint32_t bits;
} passed_over[] = {
    { "1:ECX", UINT32_C(1) << 27 },  /* OSXSAVE */
    { "7.0:ECX", UINT32_C(1) << 4 }, /* OSPKE */
    { "80000001:EDX", 0x0183f3ff },  /* AMD's copy of 1:EDX */
};

/* {"7.0:EBX": bits} from [{"cpuid-input-eax": 7, "cpuid-input-ecx": 0, "cpuid-register": "EBX", "features": bits}]. */
static json_t *name_words(const json_t *list) {
    json_t *words = json_object(), *item;
    size_t i;
    json_array_foreach(list, i, item) {
        int64_t eax, ecx, features;
        char reg[8], name[48];
        if (!query_int(json_object_get(item, "cpuid-input-eax"), &eax) ||
            !query_int(json_object_get(item, "features"), &features) ||
            !query_string(json_object_get(item, "cpuid-register"), reg, sizeof(reg)) || i >= WORDS_MAX) {
            continue;
        }
        if (query_int(json_object_get(item, "cpuid-input-ecx"), &ecx)) {
            snprintf(name, sizeof(name), "%" PRIx64 ".%" PRIx64 ":%s", (uint64_t)eax, (uint64_t)ecx, reg);
        } else {
            snprintf(name, sizeof(name), "%" PRIx64 ":%s", (uint64_t)eax, reg);
        }
        json_object_set_new(words, name, json_integer((json_int_t)(uint32_t)features));
    }
    return words;
}

/* Which of the enlightenments are on; under TCG there are none. */
static int describe_hyperv(struct qmp *q, const char *path, json_t *cpu, struct error *err) {
    CLEANUP_JSON json_t *kvm = NULL;
    if (query_if_known(q, "query-kvm", NULL, &kvm, err) < 0) {
        return -1;
    }
    json_t *on = json_array();
    json_object_set_new(cpu, "hyperv", on);
    for (size_t i = 0; json_is_true(json_object_get(kvm, "enabled")) && i < sizeof(hyperv) / sizeof(hyperv[0]); i++) {
        CLEANUP_JSON json_t *value = NULL;
        if (query_property(q, path, hyperv[i], &value, err) < 0) {
            return -1;
        }
        if (json_is_true(value)) {
            json_array_append_new(on, json_string(hyperv[i]));
        }
    }
    return 0;
}

json_t *cpu_describe(struct qmp *q, const char *path, struct error *err) {
    CLEANUP_JSON json_t *cpu = json_object();
    CLEANUP_JSON json_t *list = NULL;
    CLEANUP_JSON json_t *vendor = NULL;
    CLEANUP_JSON json_t *bits = NULL;
    if (query_property(q, path, "feature-words", &list, err) < 0 ||
        query_property(q, path, "vendor", &vendor, err) < 0 || query_property(q, path, "phys-bits", &bits, err) < 0 ||
        describe_hyperv(q, path, cpu, err) < 0) {
        return NULL;
    }
    if (json_is_array(list)) {
        json_object_set_new(cpu, "words", name_words(list));
    }
    if (json_is_string(vendor)) {
        json_object_set(cpu, "vendor", vendor);
    }
    if (json_is_integer(bits)) {
        json_object_set(cpu, "phys-bits", bits);
    }
    return json_incref(cpu);
}

/* Adds the bits of the words of `a` that `b` has not. */
static void missing_bits(const json_t *a, const json_t *b, struct name_list *names) {
    const char *word;
    json_t *value;
    size_t words = 0;
    json_object_foreach((json_t *)(uintptr_t)a, word, value) {
        uint32_t bits = (uint32_t)json_integer_value(value) & ~(uint32_t)json_integer_value(json_object_get(b, word));
        for (size_t i = 0; i < sizeof(passed_over) / sizeof(passed_over[0]); i++) {
            bits &= strcmp(passed_over[i].word, word) == 0 ? ~passed_over[i].bits : UINT32_MAX;
        }
        for (unsigned bit = 0; bit < 32 && words < WORDS_MAX; bit++) {
            if (bits >> bit & 1) {
                char name[96];
                cpu_bit_name(word, bit, name, sizeof(name));
                name_list_add(names, name);
            }
        }
        words++;
    }
}

static bool has_string(const json_t *list, const char *text) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        const char *one = json_string_value(item);
        if (one != NULL && strcmp(one, text) == 0) {
            return true;
        }
    }
    return false;
}

static void missing_hyperv(const json_t *here, const json_t *there, struct name_list *names) {
    const json_t *ours = json_object_get(here, "hyperv"), *theirs = json_object_get(there, "hyperv");
    for (size_t i = 0; i < sizeof(hyperv) / sizeof(hyperv[0]); i++) {
        if (has_string(theirs, hyperv[i]) && !has_string(ours, hyperv[i])) {
            name_list_add(names, hyperv[i]);
        }
    }
}

void cpu_match(const json_t *here, const json_t *there, struct findings *found) {
    char ours[32], theirs[32];
    if (query_string(json_object_get(here, "vendor"), ours, sizeof(ours)) &&
        query_string(json_object_get(there, "vendor"), theirs, sizeof(theirs)) && strcmp(ours, theirs) != 0) {
        findings_refuse(found, "the source's CPU vendor is %s and the destination's is %s", theirs, ours);
    }
    int64_t bits_here, bits_there;
    if (query_int(json_object_get(here, "phys-bits"), &bits_here) &&
        query_int(json_object_get(there, "phys-bits"), &bits_there) && bits_here < bits_there) {
        findings_refuse(found,
                        "the source's CPU has %" PRId64 " bits of physical address and the destination's has %" PRId64
                        " (phys-bits, host-phys-bits-limit)",
                        bits_there, bits_here);
    }
    const json_t *our_words = json_object_get(here, "words"), *their_words = json_object_get(there, "words");
    if (!json_is_object(our_words) || !json_is_object(their_words)) {
        return; /* a QEMU that does not tell */
    }
    struct name_list lacks = { 0 }, more = { 0 };
    missing_bits(their_words, our_words, &lacks);
    missing_hyperv(here, there, &lacks);
    missing_bits(our_words, their_words, &more);
    if (lacks.used > 0) {
        findings_refuse(found, "the destination's CPU lacks what the guest may use: %s: start it with the same -cpu",
                        lacks.text);
    }
    if (more.used > 0) {
        findings_remark(found,
                        "the destination's CPU has more than the source's: after a reset the guest uses it and "
                        "cannot come back: %s",
                        more.text);
    }
}
