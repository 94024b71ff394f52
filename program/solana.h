/* The Solana runtime as this program sees it: integer types, system calls, the accounts of an
 * instruction, program addresses and account creation. Nothing here knows what the program is for.
 *
 * Sources: agave `program-runtime/src/serialization.rs` (aligned input serialisation), `sdk/sbf/c`
 * (C ABI of system calls), `system-interface` (system instructions), `rent` (rent minimum). */
#ifndef CROUPIER_SOLANA_H
#define CROUPIER_SOLANA_H

#include "errors.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
typedef _Bool bool;

#define INLINE static inline __attribute__((always_inline))
#define TRY(expression)                                                                                      \
    do {                                                                                                     \
        u64 error_ = (expression);                                                                           \
        if (error_ != OK) return error_;                                                                     \
    } while (0)
#define REQUIRE(condition, error)                                                                            \
    do {                                                                                                     \
        if (!(condition)) return (error);                                                                    \
    } while (0)

enum { KEY_SIZE = 32 };

/* ---- System calls. `program/linker.py` refuses every name that is not on its allow-list. ---- */

struct slice {
    const void *start;
    u64 size;
};

struct account_meta {
    const u8 *key;
    bool is_writable;
    bool is_signer;
};

struct instruction {
    const u8 *program;
    const struct account_meta *accounts;
    u64 account_count;
    const u8 *data;
    u64 data_size;
};

struct account_info {
    const u8 *key;
    u64 *lamports;
    u64 data_size;
    u8 *data;
    const u8 *owner;
    u64 rent_epoch;
    bool is_signer;
    bool is_writable;
    bool is_executable;
};

struct signer_seeds {
    const struct slice *seeds;
    u64 count;
};

struct invocation {
    struct account_meta metas[2];
    struct account_info infos[2];
    struct instruction instruction;
    struct signer_seeds signer;
};

extern u64 sol_memcpy_(void *to, const void *from, u64 size);
extern u64 sol_memset_(void *to, u8 byte, u64 size);
extern u64 sol_memcmp_(const void *left, const void *right, u64 size, int *result);
extern u64 sol_get_clock_sysvar(void *clock);
extern u64 sol_get_rent_sysvar(void *rent);
extern u64 sol_try_find_program_address(const struct slice *seeds, u64 count, const u8 *program, u8 *address,
                                        u8 *bump);
extern u64 sol_invoke_signed_c(const struct instruction *instruction, const struct account_info *infos,
                               u64 info_count, const struct signer_seeds *signers, u64 signer_count);
extern u64 sol_poseidon(u64 parameters, u64 endianness, const struct slice *inputs, u64 count, u8 *digest);
extern u64 sol_alt_bn128_group_op(u64 operation, const void *input, u64 size, void *result);
extern u64 sol_alt_bn128_compression(u64 operation, const void *input, u64 size, void *result);

/* ---- Little-endian integers at any alignment ---- */

struct __attribute__((packed)) unaligned_u16 { u16 value; };
struct __attribute__((packed)) unaligned_u32 { u32 value; };
struct __attribute__((packed)) unaligned_u64 { u64 value; };

INLINE u16 load_u16(const u8 *from) { return ((const struct unaligned_u16 *)from)->value; }
INLINE u32 load_u32(const u8 *from) { return ((const struct unaligned_u32 *)from)->value; }
INLINE u64 load_u64(const u8 *from) { return ((const struct unaligned_u64 *)from)->value; }
INLINE void store_u16(u8 *to, u16 value) { ((struct unaligned_u16 *)to)->value = value; }
INLINE void store_u32(u8 *to, u32 value) { ((struct unaligned_u32 *)to)->value = value; }
INLINE void store_u64(u8 *to, u64 value) { ((struct unaligned_u64 *)to)->value = value; }

INLINE bool bytes_equal(const void *left, const void *right, u64 size) {
    int difference = 1;
    sol_memcmp_(left, right, size, &difference);
    return difference == 0;
}

/* ---- The accounts and data of the instruction ---- */

/* An account is the address of its entry in the serialised input. */
typedef u8 *account;

enum {
    ENTRY_IS_SIGNER = 1,
    ENTRY_IS_WRITABLE = 2,
    ENTRY_KEY = 8,
    ENTRY_OWNER = 40,
    ENTRY_LAMPORTS = 72,
    ENTRY_DATA_SIZE = 80,
    ENTRY_DATA = 88,
    ENTRY_SPARE = 10240, /* room for growth behind the data */
    ENTRY_RENT_EPOCH = 8,
    NOT_A_DUPLICATE = 0xff,
    DUPLICATE_ENTRY_SIZE = 8,
    ACCOUNTS_MAX = 6 + 64, /* settle: 6 and a vault for each of 64 players */
};

struct call {
    account accounts[ACCOUNTS_MAX];
    u64 account_count;
    u64 duplicate_count; /* positions whose account stands earlier in the list as well */
    const u8 *data;
    u64 data_size;
    const u8 *program;
};

INLINE const u8 *account_key(account a) { return a + ENTRY_KEY; }
INLINE const u8 *account_owner(account a) { return a + ENTRY_OWNER; }
INLINE u64 *account_lamports(account a) { return (u64 *)(a + ENTRY_LAMPORTS); }
INLINE u64 account_data_size(account a) { return *(const u64 *)(a + ENTRY_DATA_SIZE); }
INLINE u8 *account_data(account a) { return a + ENTRY_DATA; }
INLINE bool account_is_signer(account a) { return a[ENTRY_IS_SIGNER] != 0; }
INLINE bool account_is_writable(account a) { return a[ENTRY_IS_WRITABLE] != 0; }

/* The runtime writes an account once and marks later mentions with the position of the first, so two
 * positions hold the same account exactly if they hold the same pointer. */
static u64 parse_call(u8 *input, struct call *call) {
    u64 count = load_u64(input);
    REQUIRE(count <= ACCOUNTS_MAX, ERROR_ACCOUNT_COUNT);
    call->account_count = count;
    call->duplicate_count = 0;
    u8 *cursor = input + sizeof(u64);
    for (u64 i = 0; i < count; i++) {
        u8 first_position = *cursor;
        if (first_position != NOT_A_DUPLICATE) {
            REQUIRE(first_position < i, ERROR_ACCOUNT_COUNT);
            call->accounts[i] = call->accounts[first_position];
            call->duplicate_count++;
            cursor += DUPLICATE_ENTRY_SIZE;
            continue;
        }
        call->accounts[i] = cursor;
        u64 padded_size = (account_data_size(cursor) + 7) & ~7ULL;
        cursor += ENTRY_DATA + padded_size + ENTRY_SPARE + ENTRY_RENT_EPOCH;
    }
    call->data_size = load_u64(cursor);
    call->data = cursor + sizeof(u64);
    call->program = call->data + call->data_size;
    return OK;
}

INLINE u64 require_distinct_accounts(const struct call *call) {
    REQUIRE(call->duplicate_count == 0, ERROR_DUPLICATE_ACCOUNT);
    return OK;
}

/* As above, but the first account may stand at `position` as well. */
INLINE u64 require_distinct_accounts_but(const struct call *call, u64 position) {
    u64 allowed = call->accounts[position] == call->accounts[0] ? 1 : 0;
    REQUIRE(call->duplicate_count == allowed, ERROR_DUPLICATE_ACCOUNT);
    return OK;
}

/* ---- Rent and clock ---- */

enum { ACCOUNT_STORAGE_OVERHEAD = 128 }; /* bytes that rent counts for an account besides its data */

struct rent {
    u64 lamports_per_byte;
    u64 exemption_threshold_bits; /* an f64; a program for this machine has no floating point */
    u64 burn_percent;
};

#define F64_BITS_1 0x3ff0000000000000ULL
#define F64_BITS_2 0x4000000000000000ULL

/* Lamports that an account of `data_size` bytes must hold to be exempt from rent. The threshold has been
 * 2 years since genesis and becomes 1 with the rate doubled (SIMD-0194); nothing else is known. */
static u64 rent_minimum(u64 data_size, u64 *minimum) {
    struct rent rent;
    REQUIRE(sol_get_rent_sysvar(&rent) == 0, ERROR_SYSVAR);
    u64 lamports = (ACCOUNT_STORAGE_OVERHEAD + data_size) * rent.lamports_per_byte;
    if (rent.exemption_threshold_bits == F64_BITS_2) {
        lamports *= 2;
    } else {
        REQUIRE(rent.exemption_threshold_bits == F64_BITS_1, ERROR_SYSVAR);
    }
    *minimum = lamports;
    return OK;
}

static u64 current_slot(u64 *slot) {
    u64 clock[5]; /* slot, epoch start, epoch, leader schedule epoch, time */
    REQUIRE(sol_get_clock_sysvar(clock) == 0, ERROR_SYSVAR);
    *slot = clock[0];
    return OK;
}

/* ---- Program addresses and account creation ---- */

static const u8 SYSTEM_PROGRAM[KEY_SIZE] = {0};

enum {
    SEEDS_MAX = 4, /* the longest list here has three, and the bump */
    SYSTEM_ASSIGN = 1,
    SYSTEM_TRANSFER = 2,
    SYSTEM_ALLOCATE = 8,
};

/* An account that is about to be created at a program address. */
struct new_account {
    account target;
    struct slice seeds[SEEDS_MAX];
    u64 seed_count;
    u8 bump;
};

/* Checks that `new->target` is the writable, still unused address of the seeds; adds the bump to them. */
static u64 claim_address(const struct call *call, struct new_account *new, u64 error_if_used) {
    u8 address[KEY_SIZE];
    REQUIRE(sol_try_find_program_address(new->seeds, new->seed_count, call->program, address, &new->bump) == 0,
            ERROR_ADDRESS);
    REQUIRE(bytes_equal(address, account_key(new->target), KEY_SIZE), ERROR_ADDRESS);
    new->seeds[new->seed_count].start = &new->bump;
    new->seeds[new->seed_count].size = 1;
    new->seed_count++;
    REQUIRE(bytes_equal(account_owner(new->target), SYSTEM_PROGRAM, KEY_SIZE), error_if_used);
    REQUIRE(account_is_writable(new->target), ERROR_NOT_WRITABLE);
    return OK;
}

INLINE void describe_account(struct invocation *invocation, u64 position, account a, bool is_signer) {
    struct account_meta *meta = &invocation->metas[position];
    meta->key = account_key(a);
    meta->is_writable = 1;
    meta->is_signer = is_signer;
    struct account_info *info = &invocation->infos[position];
    info->key = account_key(a);
    info->lamports = account_lamports(a);
    info->data_size = account_data_size(a);
    info->data = account_data(a);
    info->owner = account_owner(a);
    info->rent_epoch = 0;
    info->is_signer = account_is_signer(a);
    info->is_writable = account_is_writable(a);
    info->is_executable = 0;
}

/* Calls the system program on one account (`second` null) or two, signing for the new account. */
static u64 invoke_system(const struct new_account *new, account first, account second, const u8 *data,
                         u64 data_size) {
    struct invocation invocation;
    u64 count = second ? 2 : 1;
    describe_account(&invocation, 0, first, 1);
    if (second) describe_account(&invocation, 1, second, 0);
    invocation.instruction.program = SYSTEM_PROGRAM;
    invocation.instruction.accounts = invocation.metas;
    invocation.instruction.account_count = count;
    invocation.instruction.data = data;
    invocation.instruction.data_size = data_size;
    invocation.signer.seeds = new->seeds;
    invocation.signer.count = new->seed_count;
    return sol_invoke_signed_c(&invocation.instruction, invocation.infos, count, &invocation.signer, 1);
}

/* Creates the claimed account, owned by this program and free of rent. System's CreateAccount refuses an
 * address that already holds lamports, which anyone can send there, so the account is topped up, allocated
 * and assigned instead, always. */
static u64 create_account(const struct call *call, const struct new_account *new, account payer, u64 data_size) {
    u8 data[4 + KEY_SIZE];
    u64 minimum;
    TRY(rent_minimum(data_size, &minimum));
    u64 held = *account_lamports(new->target);
    if (held < minimum) {
        REQUIRE(*account_lamports(payer) >= minimum - held, ERROR_PAYER_UNCOVERED);
        store_u32(data, SYSTEM_TRANSFER);
        store_u64(data + 4, minimum - held);
        TRY(invoke_system(new, payer, new->target, data, 12));
    }
    store_u32(data, SYSTEM_ALLOCATE);
    store_u64(data + 4, data_size);
    TRY(invoke_system(new, new->target, 0, data, 12));
    store_u32(data, SYSTEM_ASSIGN);
    sol_memcpy_(data + 4, call->program, KEY_SIZE);
    TRY(invoke_system(new, new->target, 0, data, 4 + KEY_SIZE));
    REQUIRE(account_data_size(new->target) == data_size, ERROR_ACCOUNT_SIZE);
    return OK;
}

#endif
