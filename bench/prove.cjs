// Proves one witness again and again with snarkjs in one process, and prints how many milliseconds each proof took, as JSON.
// Usage: node prove.cjs SNARKJS KEY.zkey WITNESS.wtns single|workers PROOFS
const [snarkjsPath, zkey, witness, mode, proofs] = process.argv.slice(2);
const snarkjs = require(snarkjsPath);

async function main() {
    const options = { singleThread: mode === "single" };
    // While the first is made, snarkjs compiles its WebAssembly and starts its workers: it is not counted, but verified.
    const first = await snarkjs.groth16.prove(zkey, witness, undefined, options);
    const milliseconds = [];
    for (let number = 0; number < Number(proofs); number++) {
        const began = performance.now();
        await snarkjs.groth16.prove(zkey, witness, undefined, options);
        milliseconds.push(performance.now() - began);
    }
    const key = await snarkjs.zKey.exportVerificationKey(zkey);
    if (!(await snarkjs.groth16.verify(key, first.publicSignals, first.proof))) {
        throw new Error("its proof does not verify");
    }
    console.log(JSON.stringify(milliseconds));
    process.exit(0); // snarkjs's workers would keep the process.
}

main().catch((error) => {
    console.error(String(error));
    process.exit(1);
});
