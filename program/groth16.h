/* Groth16 over BN254 with one public input, by the alt_bn128 system calls.
 *
 * Sources: Groth, "On the Size of Pairing-based Non-interactive Arguments" (2016), section 3.2; EIP-196 and
 * EIP-197 for the encoding of points; agave `bn254` for the compressed form, which is arkworks'
 * (flags YIsNegative 0x80 and PointAtInfinity 0x40) with the bytes reversed. */
#ifndef CROUPIER_GROTH16_H
#define CROUPIER_GROTH16_H

#include "state.h"

enum {
    ALT_BN128_ADD = 0,
    ALT_BN128_MUL = 2,
    ALT_BN128_PAIRING = 3,
    ALT_BN128_G1_DECOMPRESS = 1,
    ALT_BN128_G2_DECOMPRESS = 3,
};

enum {
    FIELD_SIZE = 32,
    G1_COMPRESSED_SIZE = 32,
    G2_COMPRESSED_SIZE = 64,
    PROOF_A = 0,
    PROOF_B = PROOF_A + G1_COMPRESSED_SIZE,
    PROOF_C = PROOF_B + G2_COMPRESSED_SIZE,
    PROOF_SIZE = PROOF_C + G1_COMPRESSED_SIZE,
    PAIR_SIZE = G1_SIZE + G2_SIZE,
    Y_IS_NEGATIVE = 0x80,
    IS_AT_INFINITY = 0x40,
};

static const u8 POINT_AT_INFINITY[G2_SIZE] = {0};

INLINE void put_pair(u8 *pair, const u8 *g1, const u8 *g2) {
    sol_memcpy_(pair, g1, G1_SIZE);
    sol_memcpy_(pair + G1_SIZE, g2, G2_SIZE);
}

/* A point that is not at infinity, spelt in the one way. The runtime reads arkworks' flags from the top of y even
 * where y is given in full, and takes whatever bears the second for the point at infinity. */
INLINE bool is_finite_point(const u8 *point, u64 size) {
    return (point[size / 2] & (Y_IS_NEGATIVE | IS_AT_INFINITY)) == 0 &&
           !bytes_equal(point, POINT_AT_INFINITY, size);
}

/* Refuses a key with a point off its curve, outside the subgroup of order r, or at infinity: with IC1 there,
 * the public input would bind nothing. The pairing call checks what it is given; its value is of no
 * interest here. */
static u64 require_valid_verifying_key(const u8 *vk) {
    REQUIRE(is_finite_point(vk + VK_ALPHA_G1, G1_SIZE), ERROR_VERIFYING_KEY);
    REQUIRE(is_finite_point(vk + VK_BETA_G2, G2_SIZE), ERROR_VERIFYING_KEY);
    REQUIRE(is_finite_point(vk + VK_GAMMA_G2, G2_SIZE), ERROR_VERIFYING_KEY);
    REQUIRE(is_finite_point(vk + VK_DELTA_G2, G2_SIZE), ERROR_VERIFYING_KEY);
    REQUIRE(is_finite_point(vk + VK_IC0_G1, G1_SIZE), ERROR_VERIFYING_KEY);
    REQUIRE(is_finite_point(vk + VK_IC1_G1, G1_SIZE), ERROR_VERIFYING_KEY);
    u8 pairs[3 * PAIR_SIZE];
    u8 value[FIELD_SIZE];
    put_pair(pairs, vk + VK_ALPHA_G1, vk + VK_BETA_G2);
    put_pair(pairs + PAIR_SIZE, vk + VK_IC0_G1, vk + VK_GAMMA_G2);
    put_pair(pairs + 2 * PAIR_SIZE, vk + VK_IC1_G1, vk + VK_DELTA_G2);
    REQUIRE(sol_alt_bn128_group_op(ALT_BN128_PAIRING, pairs, sizeof(pairs), value) == 0, ERROR_VERIFYING_KEY);
    return OK;
}

/* Checks e(-A, B) e(alpha, beta) e(IC0 + input IC1, gamma) e(C, delta) = 1. The caller vouches for
 * input < r (big-endian): otherwise one statement would have several encodings. */
static u64 require_valid_proof(const u8 *vk, const u8 *proof, const u8 *input) {
    u8 pairs[4 * PAIR_SIZE];
    u8 scratch[2 * G1_SIZE];

    /* Flipping the sign of the compressed A negates it without 256-bit arithmetic. */
    u8 *a = pairs;
    sol_memcpy_(scratch, proof + PROOF_A, G1_COMPRESSED_SIZE);
    scratch[0] ^= Y_IS_NEGATIVE;
    REQUIRE(sol_alt_bn128_compression(ALT_BN128_G1_DECOMPRESS, scratch, G1_COMPRESSED_SIZE, a) == 0,
            ERROR_PROOF_ENCODING);
    u8 *b = a + G1_SIZE;
    REQUIRE(sol_alt_bn128_compression(ALT_BN128_G2_DECOMPRESS, proof + PROOF_B, G2_COMPRESSED_SIZE, b) == 0,
            ERROR_PROOF_ENCODING);

    put_pair(pairs + PAIR_SIZE, vk + VK_ALPHA_G1, vk + VK_BETA_G2);

    u8 *commitment = pairs + 2 * PAIR_SIZE;
    sol_memcpy_(scratch, vk + VK_IC1_G1, G1_SIZE);
    sol_memcpy_(scratch + G1_SIZE, input, FIELD_SIZE);
    REQUIRE(sol_alt_bn128_group_op(ALT_BN128_MUL, scratch, G1_SIZE + FIELD_SIZE, commitment) == 0,
            ERROR_VERIFYING_KEY);
    sol_memcpy_(scratch, vk + VK_IC0_G1, G1_SIZE);
    sol_memcpy_(scratch + G1_SIZE, commitment, G1_SIZE);
    REQUIRE(sol_alt_bn128_group_op(ALT_BN128_ADD, scratch, 2 * G1_SIZE, commitment) == 0, ERROR_VERIFYING_KEY);
    sol_memcpy_(commitment + G1_SIZE, vk + VK_GAMMA_G2, G2_SIZE);

    u8 *c = pairs + 3 * PAIR_SIZE;
    REQUIRE(sol_alt_bn128_compression(ALT_BN128_G1_DECOMPRESS, proof + PROOF_C, G1_COMPRESSED_SIZE, c) == 0,
            ERROR_PROOF_ENCODING);
    sol_memcpy_(c + G1_SIZE, vk + VK_DELTA_G2, G2_SIZE);

    u8 value[FIELD_SIZE];
    u8 one[FIELD_SIZE];
    sol_memset_(one, 0, FIELD_SIZE);
    one[FIELD_SIZE - 1] = 1;
    REQUIRE(sol_alt_bn128_group_op(ALT_BN128_PAIRING, pairs, sizeof(pairs), value) == 0, ERROR_PROOF_ENCODING);
    REQUIRE(bytes_equal(value, one, FIELD_SIZE), ERROR_PROOF_REJECTED);
    return OK;
}

#endif
