pragma circom 2.1.0;

// The net-settlement circuit: the signed nets of up to PLAYERS players follow from up to BETS bets by the rules of the game,
// and the bets, the nets and the batch's identity are bound into one public signal.
//
// The commitments (packs, bets root, public input) are those of settlement/commitment.py, to which tests hold this file.
// Conservation needs no constraint: the house's delta enters the public input only as the negated sum of the nets.
//
// Not proven here: that stakes, guesses and outcomes are genuine; that vaults are distinct (the program demands strictly
// increasing indices); that `identity` and `vaults` are well packed (the program packs them itself from what it is about to
// change, so another packing is merely another public input); that unused places are empty.
//
// Every signal is assigned with <== or constrained with ===; the only hints (<--) are the bits in circomlib's Num2Bits,
// which fewer than 254 bits make unique. So the witness is a function of the inputs.
//
// Powers of two are shifts: witness code computes `**` anew at every run, which made a proof take twice as long.

include "bitify.circom";
include "poseidon.circom";

// The least b with 2^b >= n.
function bitsToCount(n) {
    var bits = 0;
    while (1 << bits < n) {
        bits++;
    }
    return bits;
}

// How many groups of `size` hold `count` things.
function groups(count, size) {
    return (count + size - 1) \ size;
}

function smaller(a, b) {
    return a < b ? a : b;
}

template Boolean() {
    signal input in;

    in * (in - 1) === 0;
}

// Hands `in` to the output that the bits (least significant first) number, and zero to all others, by halving: of a node's
// two children the right one is in·bit and the left one the rest, so the outputs always sum to `in`.
template Demultiplexer(BITS) {
    signal input in;
    signal input bits[BITS];
    signal output out[1 << BITS];

    // As in a heap: node 1 is the root, node n's children are 2n and 2n + 1.
    signal nodes[1 << (BITS + 1)];
    nodes[0] <== 0;
    nodes[1] <== in;
    for (var level = 0; level < BITS; level++) {
        for (var node = 1 << level; node < 1 << (level + 1); node++) {
            nodes[2 * node + 1] <== nodes[node] * bits[BITS - 1 - level];
            nodes[2 * node] <== nodes[node] - nodes[2 * node + 1];
        }
    }
    for (var i = 0; i < 1 << BITS; i++) {
        out[i] <== nodes[(1 << BITS) + i];
    }
}

// One bet: its pack for the bets root, and its delta in the accumulator of its player's pair of slots. The even slot of a
// pair counts in units of 1, the odd one in units of 2^PAIR_BITS.
template Bet(SLOT_BITS, STAKE_BITS, PAIR_BITS) {
    signal input stake;
    signal input guess;
    signal input outcome;
    signal input slot;
    signal output pack;
    signal output pairs[1 << (SLOT_BITS - 1)];

    component stakeBits = Num2Bits(STAKE_BITS);
    stakeBits.in <== stake;
    component slotBits = Num2Bits(SLOT_BITS);
    slotBits.in <== slot;
    component guessIsBoolean = Boolean();
    guessIsBoolean.in <== guess;
    component outcomeIsBoolean = Boolean();
    outcomeIsBoolean.in <== outcome;

    pack <== stake + (1 << STAKE_BITS) * guess + (1 << (STAKE_BITS + 1)) * outcome + (1 << (STAKE_BITS + 2)) * slot;

    // +stake if the guess is the outcome, else -stake: stake·(1 - 2·guess)·(1 - 2·outcome).
    signal guessAndOutcome <== guess * outcome;
    signal delta <== stake * (1 - 2 * guess - 2 * outcome + 4 * guessAndOutcome);

    signal oddDelta <== slotBits.out[0] * delta;
    component demultiplexer = Demultiplexer(SLOT_BITS - 1);
    demultiplexer.in <== delta + ((1 << PAIR_BITS) - 1) * oddDelta;
    for (var i = 0; i < SLOT_BITS - 1; i++) {
        demultiplexer.bits[i] <== slotBits.out[i + 1];
    }
    for (var pair = 0; pair < 1 << (SLOT_BITS - 1); pair++) {
        pairs[pair] <== demultiplexer.out[pair];
    }
}

// The nets hold what the bets' deltas sum to, and each fits a signed 64-bit amount; `out` is the nets with 2^63 added.
// The sum over a pair determines both of its nets: sums of deltas stay below BETS·2^63 and nets below 2^64, so for up to
// 2^15 bets no difference between them reaches 2^80.
template Nets(BETS, PLAYERS, PAIR_BITS, NET_BITS) {
    signal input pairs[BETS][PLAYERS \ 2];
    signal input nets[PLAYERS];
    signal output out[PLAYERS];

    assert(BETS <= 1 << 15);
    component netBits[PLAYERS];
    for (var player = 0; player < PLAYERS; player++) {
        out[player] <== nets[player] + (1 << (NET_BITS - 1));
        netBits[player] = Num2Bits(NET_BITS);
        netBits[player].in <== out[player];
    }
    for (var pair = 0; pair < PLAYERS \ 2; pair++) {
        var sum = 0;
        for (var bet = 0; bet < BETS; bet++) {
            sum += pairs[bet][pair];
        }
        sum === nets[2 * pair] + (1 << PAIR_BITS) * nets[2 * pair + 1];
    }
}

// Packs `COUNT` values of `BITS` bits each, `PER_ELEMENT` to a field element, the first lowest.
template Pack(COUNT, PER_ELEMENT, BITS) {
    signal input in[COUNT];
    signal output out[groups(COUNT, PER_ELEMENT)];

    assert(PER_ELEMENT * BITS < 254);
    for (var element = 0; element < groups(COUNT, PER_ELEMENT); element++) {
        var sum = 0;
        for (var i = element * PER_ELEMENT; i < smaller(COUNT, (element + 1) * PER_ELEMENT); i++) {
            sum += in[i] * (1 << (BITS * (i - element * PER_ELEMENT)));
        }
        out[element] <== sum;
    }
}

// Poseidon(idsDigest, nodes…): the elements are the nodes themselves if there are at most WIDTH, else each node hashes WIDTH.
template BetsRoot(ELEMENTS, WIDTH) {
    signal input idsDigest;
    signal input elements[ELEMENTS];
    signal output out;

    var nodeCount = ELEMENTS <= WIDTH ? ELEMENTS : groups(ELEMENTS, WIDTH);
    component root = Poseidon(1 + nodeCount);
    root.inputs[0] <== idsDigest;
    if (ELEMENTS <= WIDTH) {
        for (var i = 0; i < ELEMENTS; i++) {
            root.inputs[1 + i] <== elements[i];
        }
    } else {
        component nodes[nodeCount];
        for (var node = 0; node < nodeCount; node++) {
            var first = node * WIDTH;
            var count = smaller(WIDTH, ELEMENTS - first);
            nodes[node] = Poseidon(count);
            for (var i = 0; i < count; i++) {
                nodes[node].inputs[i] <== elements[first + i];
            }
            root.inputs[1 + node] <== nodes[node].out;
        }
    }
    out <== root.out;
}

// Poseidon over the first WIDTH inputs; then, for each following group of up to WIDTH - 1, over the last result and the group.
template PoseidonChain(COUNT, WIDTH) {
    signal input in[COUNT];
    signal output out;

    var links = COUNT <= WIDTH ? 1 : 1 + groups(COUNT - WIDTH, WIDTH - 1);
    component hashes[links];
    var next = 0;
    for (var link = 0; link < links; link++) {
        var carried = link == 0 ? 0 : 1;
        var count = smaller(WIDTH, COUNT - next + carried);
        hashes[link] = Poseidon(count);
        if (link > 0) {
            hashes[link].inputs[0] <== hashes[link - 1].out;
        }
        for (var i = carried; i < count; i++) {
            hashes[link].inputs[i] <== in[next];
            next++;
        }
    }
    out <== hashes[links - 1].out;
}

// PLAYERS must be a power of two, at least 4. The widths below are the constants of settlement/commitment.py.
template Settlement(BETS, PLAYERS) {
    var STAKE_BITS = 63;
    var PACK_BITS = 73;
    var PACKS_PER_ELEMENT = 3;
    var ELEMENTS_PER_NODE = 11;
    var VAULTS_PER_ELEMENT = 7;
    var NET_BITS = 64;
    var NETS_PER_ELEMENT = 3;
    var POSEIDON_MAX_INPUTS = 12;
    var PAIR_BITS = 80;

    var SLOT_BITS = bitsToCount(PLAYERS);
    assert(PLAYERS == 1 << SLOT_BITS);
    assert(SLOT_BITS >= 2 && STAKE_BITS + 2 + SLOT_BITS <= PACK_BITS);
    var ELEMENTS = groups(BETS, PACKS_PER_ELEMENT);
    var VAULT_ELEMENTS = groups(PLAYERS, VAULTS_PER_ELEMENT);
    var NET_ELEMENTS = groups(PLAYERS, NETS_PER_ELEMENT);

    signal input identity;
    signal input idsDigest;
    signal input stakes[BETS];
    signal input guesses[BETS];
    signal input outcomes[BETS];
    signal input slots[BETS];
    signal input vaults[VAULT_ELEMENTS];
    signal input nets[PLAYERS];
    signal output publicInput;

    component bets[BETS];
    component packs = Pack(BETS, PACKS_PER_ELEMENT, PACK_BITS);
    component checkedNets = Nets(BETS, PLAYERS, PAIR_BITS, NET_BITS);
    for (var i = 0; i < BETS; i++) {
        bets[i] = Bet(SLOT_BITS, STAKE_BITS, PAIR_BITS);
        bets[i].stake <== stakes[i];
        bets[i].guess <== guesses[i];
        bets[i].outcome <== outcomes[i];
        bets[i].slot <== slots[i];
        packs.in[i] <== bets[i].pack;
        checkedNets.pairs[i] <== bets[i].pairs;
    }

    component root = BetsRoot(ELEMENTS, ELEMENTS_PER_NODE);
    root.idsDigest <== idsDigest;
    root.elements <== packs.out;

    checkedNets.nets <== nets;
    component packedNets = Pack(PLAYERS, NETS_PER_ELEMENT, NET_BITS);
    packedNets.in <== checkedNets.out;
    var houseDelta = 0;
    for (var player = 0; player < PLAYERS; player++) {
        houseDelta -= nets[player];
    }

    component digest = PoseidonChain(3 + VAULT_ELEMENTS + NET_ELEMENTS, POSEIDON_MAX_INPUTS);
    digest.in[0] <== identity;
    digest.in[1] <== root.out;
    digest.in[2] <== houseDelta + (1 << (NET_BITS - 1));
    for (var i = 0; i < VAULT_ELEMENTS; i++) {
        digest.in[3 + i] <== vaults[i];
    }
    for (var i = 0; i < NET_ELEMENTS; i++) {
        digest.in[3 + VAULT_ELEMENTS + i] <== packedNets.out[i];
    }
    publicInput <== digest.out;
}
