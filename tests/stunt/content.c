/* SPDX-License-Identifier: Apache-2.0 */
#include "content.h"

#include "number.h"

#include <string.h>

/* Every word is padded to 16 bytes so that one fixed-size copy writes it whatever its length. */
#define WORD_SPACE 15
#define WORD(text)                                                                                                     \
    { text, sizeof(text) - 1 }

static const struct word {
    char text[WORD_SPACE];
    uint8_t length;
} words[] = {
    WORD("the "),     WORD("of "),     WORD("and "),    WORD("to "),        WORD("a "),       WORD("in "),
    WORD("is "),      WORD("that "),   WORD("for "),    WORD("it "),        WORD("as "),      WORD("with "),
    WORD("on "),      WORD("was "),    WORD("by "),     WORD("this "),      WORD("be "),      WORD("are "),
    WORD("from "),    WORD("or "),     WORD("have "),   WORD("an "),        WORD("they "),    WORD("which "),
    WORD("one "),     WORD("you "),    WORD("were "),   WORD("all "),       WORD("her "),     WORD("there "),
    WORD("would "),   WORD("their "),  WORD("we "),     WORD("him "),       WORD("been "),    WORD("has "),
    WORD("when "),    WORD("who "),    WORD("will "),   WORD("more "),      WORD("no "),      WORD("if "),
    WORD("out "),     WORD("so "),     WORD("said "),   WORD("what "),      WORD("up "),      WORD("its "),
    WORD("about "),   WORD("into "),   WORD("than "),   WORD("them "),      WORD("can "),     WORD("only "),
    WORD("other "),   WORD("new "),    WORD("some "),   WORD("could "),     WORD("time "),    WORD("these "),
    WORD("two "),     WORD("may "),    WORD("then "),   WORD("do "),        WORD("first "),   WORD("any "),
    WORD("my "),      WORD("now "),    WORD("such "),   WORD("like "),      WORD("our "),     WORD("over "),
    WORD("man "),     WORD("me "),     WORD("even "),   WORD("most "),      WORD("made "),    WORD("after "),
    WORD("also "),    WORD("did "),    WORD("many "),   WORD("before "),    WORD("must "),    WORD("through "),
    WORD("back "),    WORD("years "),  WORD("where "),  WORD("much "),      WORD("your "),    WORD("way "),
    WORD("well "),    WORD("down "),   WORD("should "), WORD("because "),   WORD("each "),    WORD("just "),
    WORD("those "),   WORD("people "), WORD("how "),    WORD("too "),       WORD("little "),  WORD("state "),
    WORD("good "),    WORD("very "),   WORD("make "),   WORD("world "),     WORD("still "),   WORD("see "),
    WORD("between "), WORD("struct "), WORD("return "), WORD("static "),    WORD("const "),   WORD("char *"),
    WORD("int "),     WORD("void "),   WORD("NULL, "),  WORD("migration "), WORD("memory "),  WORD("page "),
    WORD("device "),  WORD("guest "),  WORD("disk "),   WORD("error: "),    WORD("</div>\n"), WORD("\": \""),
    WORD("}\n\t"),    WORD("{\n\t\t"),
};

#define WORD_COUNT (sizeof(words) / sizeof(words[0]))

enum content content_pick(const struct content_mix *mix, uint64_t number) {
    uint64_t at = number_mix(number) % 100;
    for (int kind = 0; kind < CONTENT_COUNT; kind++) {
        if (at < mix->percent[kind]) {
            return (enum content)kind;
        }
        at -= mix->percent[kind];
    }
    return CONTENT_ZERO;
}

/* Words, with a number here and there: what logs, sources and markup look like to a codec. */
static void write_text(char *page, uint64_t state) {
    size_t at = 0;
    while (at + 9 * WORD_SPACE <= STUNT_PAGE) {
        uint64_t random = number_random(&state);
        for (int i = 0; i < 7; i++, random >>= 8) {
            const struct word *word = &words[random % WORD_COUNT];
            memcpy(page + at, word->text, WORD_SPACE);
            at += word->length;
        }
        for (int i = 0; i < 3; i++, random >>= 2) {
            page[at++] = (char)('0' + random % 10);
        }
        page[at++] = ' ';
    }
    memset(page + at, '.', STUNT_PAGE - at);
}

/* Structures with pointers into one heap, small counts and empty fields. */
static void write_pointers(uint64_t *page, uint64_t state) {
    uint64_t heap = UINT64_C(0x00007f0000000000) | (number_mix(state) & UINT64_C(0xff0000000));
    for (size_t i = 0; i < STUNT_PAGE / 8; i += 8) {
        uint64_t a = number_random(&state), b = number_random(&state);
        page[i] = heap + (a & 0xffffff0);
        page[i + 1] = heap + ((a >> 32) & 0xfff0);
        page[i + 2] = b & 0xff;
        page[i + 3] = 0;
        page[i + 4] = heap + ((b >> 8) & 0xffffff0);
        page[i + 5] = (b >> 40) & 0xffff;
        page[i + 6] = 0;
        page[i + 7] = a ^ b;
    }
}

static void write_random(uint64_t *page, uint64_t state) {
    for (size_t i = 0; i < STUNT_PAGE / 8; i++) {
        page[i] = number_random(&state);
    }
}

void content_write(void *page, enum content kind, uint64_t number) {
    uint64_t state = number_mix(number) | 1;
    switch (kind) {
    case CONTENT_TEXT:
        write_text(page, state);
        break;
    case CONTENT_POINTER:
        write_pointers(page, state);
        break;
    case CONTENT_RANDOM:
        write_random(page, state);
        break;
    case CONTENT_ZERO:
    case CONTENT_COUNT:
        memset(page, 0, STUNT_PAGE);
        break;
    }
}
