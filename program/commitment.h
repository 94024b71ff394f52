/* The public input of a settlement: a chain of Poseidon hashes over what the program is about to change.
 *
 * With every number an element of the scalar field of BN254 and P the players of the circuit:
 *   identity = number + 2^64 lane + 2^80 bet_count
 *   V_j = sum over i < 7 of v[7j+i] 2^(32 i),           j < ceil(P / 7)
 *   D_j = sum over i < 3 of (d[3j+i] + 2^63) 2^(80 i),  j < ceil(P / 3)
 *   scope = H(identity, V_0..), public input = H(scope, bets_root, house_delta + 2^63, D_0..)
 * A slot without a vault has v = 0 and d = 0; beyond P the terms are left out. H hashes its inputs twelve at
 * a time, each hash being the first input of the next. Poseidon is circomlib's, which `sol_poseidon` equals.
 * `settlement/commitment.py` computes the same. The circuit holds no delta to 64 bits: that D_j is of
 * such deltas, and 80 bits apart, is what makes it tell them apart. */
#ifndef CROUPIER_COMMITMENT_H
#define CROUPIER_COMMITMENT_H

#include "groth16.h"

enum {
    POSEIDON_BN254_X5 = 0,
    POSEIDON_BIG_ENDIAN = 0,
    POSEIDON_INPUTS_MAX = 12,
    FIELD_WORDS = 4,
    INDICES_PER_ELEMENT = 7,
    DELTAS_PER_ELEMENT = 3,
    DELTA_STRIDE_BITS = 80,
    WORD_BITS = 64,
    PLAYERS_MAX = 64,
};

#define TWO_POW_63 0x8000000000000000ULL

/* The order r of the group, big-endian. */
static const u8 SCALAR_FIELD_ORDER[FIELD_SIZE] = {
    0x30, 0x64, 0x4e, 0x72, 0xe1, 0x31, 0xa0, 0x29, 0xb8, 0x50, 0x45, 0xb6, 0x81, 0x81, 0x58, 0x5d,
    0x28, 0x33, 0xe8, 0x48, 0x79, 0xb9, 0x70, 0x91, 0x43, 0xe1, 0xf5, 0x93, 0xf0, 0x00, 0x00, 0x01,
};

INLINE bool is_scalar(const u8 *big_endian) {
    int difference = 0;
    sol_memcmp_(big_endian, SCALAR_FIELD_ORDER, FIELD_SIZE, &difference);
    return difference < 0;
}

struct sponge {
    u64 elements[POSEIDON_INPUTS_MAX][FIELD_WORDS]; /* bytes big-endian */
    u64 count;
};

static u64 sponge_squeeze(const struct sponge *sponge, u8 *digest) {
    struct slice inputs[POSEIDON_INPUTS_MAX];
    for (u64 i = 0; i < sponge->count; i++) {
        inputs[i].start = sponge->elements[i];
        inputs[i].size = FIELD_SIZE;
    }
    REQUIRE(sol_poseidon(POSEIDON_BN254_X5, POSEIDON_BIG_ENDIAN, inputs, sponge->count, digest) == 0,
            ERROR_PUBLIC_INPUT);
    return OK;
}

/* Makes room for one more element and points to it. */
static u64 sponge_next(struct sponge *sponge, u64 **element) {
    if (sponge->count == POSEIDON_INPUTS_MAX) {
        u8 digest[FIELD_SIZE];
        TRY(sponge_squeeze(sponge, digest));
        sol_memcpy_(sponge->elements[0], digest, FIELD_SIZE);
        sponge->count = 1;
    }
    *element = sponge->elements[sponge->count];
    sponge->count++;
    return OK;
}

/* `words` has the least significant first. */
static u64 sponge_absorb(struct sponge *sponge, const u64 *words) {
    u64 *element;
    TRY(sponge_next(sponge, &element));
    for (u64 i = 0; i < FIELD_WORDS; i++) element[FIELD_WORDS - 1 - i] = __builtin_bswap64(words[i]);
    return OK;
}

struct statement {
    u64 number;
    u64 lane;
    u64 bet_count;
    u64 players; /* slots of the circuit */
    u64 vault_count;
    i64 house_delta;
    const u8 *bets_root;
    const u8 *deltas; /* i64, `vault_count` of them, unaligned */
    const account *vaults;
};

INLINE u64 biased(u64 delta) { return delta + TWO_POW_63; }

static u64 absorb_bytes(struct sponge *sponge, const u8 *big_endian) {
    u64 *element;
    TRY(sponge_next(sponge, &element));
    sol_memcpy_(element, big_endian, FIELD_SIZE);
    return OK;
}

static u64 scope(const struct statement *statement, u8 *digest) {
    struct sponge sponge;
    sponge.count = 0;
    u64 words[FIELD_WORDS];
    words[0] = statement->number;
    words[1] = statement->lane | (statement->bet_count << 16);
    words[2] = 0;
    words[3] = 0;
    TRY(sponge_absorb(&sponge, words));
    for (u64 slot = 0; slot < statement->players; slot += INDICES_PER_ELEMENT) {
        sol_memset_(words, 0, sizeof(words));
        for (u64 i = 0; i < INDICES_PER_ELEMENT && slot + i < statement->vault_count; i++) {
            u64 index = load_u32(account_data(statement->vaults[slot + i]) + VAULT_INDEX);
            words[i / 2] |= index << (32 * (i % 2));
        }
        TRY(sponge_absorb(&sponge, words));
    }
    return sponge_squeeze(&sponge, digest);
}

/* Adds a value that the words, least significant first, have no bits of yet. */
INLINE void place_bits(u64 *words, u64 value, u64 position) {
    u64 word = position / WORD_BITS, shift = position % WORD_BITS;
    words[word] |= value << shift;
    if (shift != 0) words[word + 1] |= value >> (WORD_BITS - shift);
}

static u64 public_input(const struct statement *statement, u8 *digest) {
    struct sponge sponge;
    sponge.count = 0;
    u64 words[FIELD_WORDS];

    TRY(scope(statement, digest));
    TRY(absorb_bytes(&sponge, digest));
    TRY(absorb_bytes(&sponge, statement->bets_root));
    sol_memset_(words, 0, sizeof(words));
    words[0] = biased((u64)statement->house_delta);
    TRY(sponge_absorb(&sponge, words));

    for (u64 slot = 0; slot < statement->players; slot += DELTAS_PER_ELEMENT) {
        sol_memset_(words, 0, sizeof(words));
        for (u64 i = 0; i < DELTAS_PER_ELEMENT && slot + i < statement->players; i++) {
            bool is_empty = slot + i >= statement->vault_count;
            u64 delta = is_empty ? 0 : load_u64(statement->deltas + sizeof(u64) * (slot + i));
            place_bits(words, biased(delta), DELTA_STRIDE_BITS * i);
        }
        TRY(sponge_absorb(&sponge, words));
    }
    return sponge_squeeze(&sponge, digest);
}

#endif
