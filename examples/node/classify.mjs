// Streams pictures to pagesight from Node: no generated code, the contract is read as it is.
//
//   npm ci --prefix examples/node
//   node examples/node/classify.mjs protos 127.0.0.1:50051 a.png b.png
//
// Prints one JSON object per picture, as the answers come: they overtake each other, so each
// carries the request_id of its question. A restart of the server is waited for.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.resolve(process.env.NODE_MODULES ?? "examples/node", "x.js"));
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [protos, address, ...files] = process.argv.slice(2);
const definition = loader.loadSync("pagesight/v1/classifier.proto", {
  includeDirs: [protos, path.join(protos, "third_party")],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true, // a doubt of zero is a number, and no reasons are an empty list
  oneofs: true,
});
const { ClassifierService } = grpc.loadPackageDefinition(definition).pagesight.v1;
const client = new ClassifierService(address, grpc.credentials.createInsecure());

const MAX_IN_FLIGHT = 16;
const RETRY_FOR_MS = 60_000; // how long the server may be away: longer than a restart takes
const LONGEST_DELAY_MS = 5_000;

const unanswered = new Map(); // requests by id; when a stream breaks they are sent over the next
let stream; // none while the server is away
let allRead = false;
let brokenAt, delayMs; // since the last answer
let goOn = () => {};

function open() {
  stream = client.ClassifyStream();
  stream.on("data", answered);
  stream.on("error", () => {}); // its status says the same, and comes after every stream
  stream.on("status", ended);
  for (const request of unanswered.values()) stream.write(request);
}

function answered({ request_id, outcome, classification, error }) {
  const said =
    outcome === "error"
      ? { error: error.message, code: error.code }
      : {
          label: classification.label,
          score: classification.score, // accepted from classification.threshold on
          doubt: classification.doubt,
          review: classification.review_reasons, // names of ReviewReason; none: nobody need look
        };
  console.log(JSON.stringify({ file: files[Number(request_id)], ...said }));
  unanswered.delete(request_id);
  brokenAt = undefined;
  goOn();
  if (allRead && unanswered.size === 0) stream.end();
}

function ended({ code, details }) {
  stream = undefined;
  if (allRead && unanswered.size === 0) return client.close();
  if (brokenAt === undefined) {
    brokenAt = Date.now();
    delayMs = 100;
    console.error(`the stream broke: ${details}; trying again for ${RETRY_FOR_MS / 1000} s`);
  }
  const leftMs = brokenAt + RETRY_FOR_MS - Date.now();
  if (![grpc.status.UNAVAILABLE, grpc.status.OK].includes(code) || leftMs <= 0) {
    console.error(`the stream broke for good: ${details}`);
    process.exit(1);
  }
  // At random, so that callers who broke off together do not come back together.
  setTimeout(open, Math.min(leftMs, delayMs * (0.5 + Math.random())));
  delayMs = Math.min(LONGEST_DELAY_MS, 2 * delayMs);
}

open();
for (const [number, file] of files.entries()) {
  while (unanswered.size >= MAX_IN_FLIGHT) await new Promise((go) => (goOn = go));
  const request = { request_id: String(number), query: { image: readFileSync(file) } };
  unanswered.set(request.request_id, request);
  stream?.write(request);
}
allRead = true;
if (unanswered.size === 0) stream?.end();
