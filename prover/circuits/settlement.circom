pragma circom 2.1.0;

// The net-settlement circuit: the signed nets of up to PLAYERS players follow from up to BETS bets by the rules of the game,
// and the bets, the nets and the batch's identity are bound into one public signal.
//
// The commitments (packs, bets root, public input) are those of settlement/commitment.py, to which tests hold this file.
// The nets are no inputs: what the bets' deltas sum to goes into the public input as it is, and conservation needs no constraint,
// for the house's delta enters it as the negated sum.
//
// Not proven here: that stakes, guesses and outcomes are genuine; that vaults are distinct (the program demands strictly
// increasing indices); that `scope` is the hash of the batch's identity and vaults, and that nets and house fit 64 bits (the program
// makes the public input itself, from what it is about to change, so anything else is merely another public input); that unused
// places are empty.
//
// A bet in a slot that there is not: in a trio that there is not, the demultiplexer refuses it. In the last trio, where PLAYERS is
// no multiple of three, its delta stands in the public input where the program, which knows PLAYERS nets, has nothing: under no
// public input of the program's is there a proof, unless the deltas in that slot come to zero (bets that cancel out, or stakes of
// zero). Such bets stand under the root and move nothing, as those do in a slot that the program has but the batch has no vault for:
// whoever holds a bet against the root has to see that its slot is one of the batch's (settlement/receipts.py).
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
// two children the right one is in·bit and the left one the rest, so the outputs always sum to `in`. Where the right one would
// lead to no output, in·bit must be zero: so bits that number no output are refused unless `in` is zero.
template Demultiplexer(OUTPUTS) {
    var BITS = bitsToCount(OUTPUTS);
    signal input in;
    signal input bits[BITS];
    signal output out[OUTPUTS];

    // As in a heap: node 1 is the root, node n's children are 2n and 2n + 1.
    signal nodes[1 << (BITS + 1)];
    nodes[0] <== 0;
    nodes[1] <== in;
    for (var level = 0; level < BITS; level++) {
        var bit = BITS - 1 - level;
        for (var node = 1 << level; node < 1 << (level + 1); node++) {
            var firstOutput = (node - (1 << level)) << (bit + 1);
            if (firstOutput + (1 << bit) < OUTPUTS) {
                nodes[2 * node + 1] <== nodes[node] * bits[bit];
                nodes[2 * node] <== nodes[node] - nodes[2 * node + 1];
            } else {
                if (firstOutput < OUTPUTS) {
                    nodes[node] * bits[bit] === 0;
                }
                nodes[2 * node + 1] <== 0;
                nodes[2 * node] <== nodes[node];
            }
        }
    }
    for (var i = 0; i < OUTPUTS; i++) {
        out[i] <== nodes[(1 << BITS) + i];
    }
}

// One bet: its pack for the bets root, its delta, and the delta in the accumulator of its player's trio of slots. The slots of a
// trio count in units of 1, 2^NET_STRIDE and 2^(2·NET_STRIDE).
template Bet(TRIOS, STAKE_BITS, NET_STRIDE) {
    var TRIO_BITS = bitsToCount(TRIOS);
    signal input stake;
    signal input guess;
    signal input outcome;
    signal input trio;
    signal input isSecond;
    signal input isThird;
    signal output pack;
    signal output delta;
    signal output trios[TRIOS];

    component stakeBits = Num2Bits(STAKE_BITS);
    stakeBits.in <== stake;
    component trioBits = Num2Bits(TRIO_BITS);
    trioBits.in <== trio;
    component guessIsBoolean = Boolean();
    guessIsBoolean.in <== guess;
    component outcomeIsBoolean = Boolean();
    outcomeIsBoolean.in <== outcome;
    component isSecondIsBoolean = Boolean();
    isSecondIsBoolean.in <== isSecond;
    component isThirdIsBoolean = Boolean();
    isThirdIsBoolean.in <== isThird;
    isSecond * isThird === 0;

    var slot = 3 * trio + isSecond + 2 * isThird;
    pack <== stake + (1 << STAKE_BITS) * guess + (1 << (STAKE_BITS + 1)) * outcome + (1 << (STAKE_BITS + 2)) * slot;

    // +stake if the guess is the outcome, else -stake: stake·(1 - 2·guess)·(1 - 2·outcome).
    signal guessAndOutcome <== guess * outcome;
    delta <== stake * (1 - 2 * guess - 2 * outcome + 4 * guessAndOutcome);

    component demultiplexer = Demultiplexer(TRIOS);
    demultiplexer.in <== delta * (1 + ((1 << NET_STRIDE) - 1) * isSecond + ((1 << (2 * NET_STRIDE)) - 1) * isThird);
    demultiplexer.bits <== trioBits.out;
    trios <== demultiplexer.out;
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

// What nets the public input tells of is unambiguous: a trio's element is the sum of its deltas in units of powers of 2^NET_STRIDE,
// and the program's the same of its nets. The deltas of up to 2^15 bets sum to less than 2^78 and nets are at most 2^63, so that
// equal elements, whose difference is below 2^240 and thus no multiple of the field's order, have equal digits.
//
// PLAYERS need be neither a power of two nor a multiple of three; at least 4. The widths below are the constants of
// settlement/commitment.py.
template Settlement(BETS, PLAYERS) {
    var STAKE_BITS = 63;
    var SLOT_BITS = 8;
    var PACKS_PER_ELEMENT = 3;
    var ELEMENTS_PER_NODE = 11;
    var NET_BITS = 64;
    var NETS_PER_ELEMENT = 3;
    var NET_STRIDE = 80;
    var POSEIDON_MAX_INPUTS = 12;

    var TRIOS = groups(PLAYERS, NETS_PER_ELEMENT);
    assert(BETS <= 1 << 15);
    assert(TRIOS >= 2 && NETS_PER_ELEMENT << bitsToCount(TRIOS) <= 1 << SLOT_BITS);
    var ELEMENTS = groups(BETS, PACKS_PER_ELEMENT);

    signal input scope;
    signal input idsDigest;
    signal input stakes[BETS];
    signal input guesses[BETS];
    signal input outcomes[BETS];
    signal input trios[BETS];
    signal input seconds[BETS];
    signal input thirds[BETS];
    signal output publicInput;

    component bets[BETS];
    component packs = Pack(BETS, PACKS_PER_ELEMENT, STAKE_BITS + 2 + SLOT_BITS);
    var houseDelta = 0;
    for (var i = 0; i < BETS; i++) {
        bets[i] = Bet(TRIOS, STAKE_BITS, NET_STRIDE);
        bets[i].stake <== stakes[i];
        bets[i].guess <== guesses[i];
        bets[i].outcome <== outcomes[i];
        bets[i].trio <== trios[i];
        bets[i].isSecond <== seconds[i];
        bets[i].isThird <== thirds[i];
        packs.in[i] <== bets[i].pack;
        houseDelta -= bets[i].delta;
    }

    component root = BetsRoot(ELEMENTS, ELEMENTS_PER_NODE);
    root.idsDigest <== idsDigest;
    root.elements <== packs.out;

    component digest = PoseidonChain(3 + TRIOS, POSEIDON_MAX_INPUTS);
    digest.in[0] <== scope;
    digest.in[1] <== root.out;
    digest.in[2] <== houseDelta + (1 << (NET_BITS - 1));
    for (var trio = 0; trio < TRIOS; trio++) {
        var nets = 0;
        for (var i = 0; i < smaller(NETS_PER_ELEMENT, PLAYERS - trio * NETS_PER_ELEMENT); i++) {
            nets += 1 << (NET_BITS - 1 + NET_STRIDE * i);
        }
        for (var i = 0; i < BETS; i++) {
            nets += bets[i].trios[trio];
        }
        digest.in[3 + trio] <== nets;
    }
    publicInput <== digest.out;
}
