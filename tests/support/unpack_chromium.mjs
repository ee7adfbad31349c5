// Unpacks the npm package @sparticuz/chromium, a Chromium without a desktop, for `make chromium`:
//
//   node unpack_chromium.mjs PACKAGE.tgz FOLDER
//
//   package/bin/chromium.br       -> FOLDER/chrome
//   package/bin/*.tar.br          -> libraries and software rendering, beside it
//                                    FOLDER/chromium starts it with these libraries
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { brotliDecompressSync } from "node:zlib";

const SHA512 = "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=="; // of version 147.0.0, as npm's registry has it

const [packed, target] = process.argv.slice(2).map((path) => resolve(path));
const found = createHash("sha512").update(readFileSync(packed)).digest("base64");
if (found !== SHA512) {
  console.error(`${packed} is not the package that is pinned: sha512 ${found}`);
  process.exit(1);
}
const unpacked = `${target}/unpacked`;
mkdirSync(unpacked, { recursive: true });
execFileSync("tar", ["-xzf", packed, "-C", unpacked]);
const inside = (name) => brotliDecompressSync(readFileSync(`${unpacked}/package/bin/${name}`));
writeFileSync(`${target}/chrome`, inside("chromium.br"));
chmodSync(`${target}/chrome`, 0o755);
for (const name of ["al2023", "swiftshader"]) {
  execFileSync("tar", ["-x", "-C", target], { input: inside(`${name}.tar.br`), maxBuffer: 2 ** 28 });
}
rmSync(unpacked, { recursive: true });
writeFileSync(
  `${target}/chromium`,
  `#!/bin/sh\nLD_LIBRARY_PATH='${target}/lib' exec '${target}/chrome' "$@"\n`,
);
chmodSync(`${target}/chromium`, 0o755);
