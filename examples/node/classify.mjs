// Streams pictures to pagesight from Node: no generated code, the contract is read as it is.
//
//   npm ci --prefix examples/node
//   node examples/node/classify.mjs protos 127.0.0.1:50051 a.png b.png
//   node examples/node/classify.mjs protos a:50051,b:50051 a.png b.png    (or dns:///name:50051)
//
// Prints one JSON object per picture, as the answers come: they overtake each other, so each
// carries the request_id of its question. Several servers have a stream each, and whoever answers
// faster is sent more. What one leaves without an answer, because it stops or dies, another is sent;
// when all are away, their restart is waited for.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.resolve(process.env.NODE_MODULES ?? "examples/node", "x.js"));
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [protos, addresses, ...files] = process.argv.slice(2);
const definition = loader.loadSync("pagesight/v1/classifier.proto", {
  includeDirs: [protos, path.join(protos, "third_party")],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true, // a doubt of zero is a number, and no reasons are an empty list
  oneofs: true,
});
const { ClassifierService } = grpc.loadPackageDefinition(definition).pagesight.v1;

const MAX_IN_FLIGHT = 16;
const RETRY_FOR_MS = 60_000; // how long all servers may be away: longer than a restart takes
const LONGEST_DELAY_MS = 5_000;
const OPTIONS = {
  "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
  "grpc.keepalive_time_ms": 10_000, // the least that a pagesight server allows, by default
  "grpc.keepalive_timeout_ms": 10_000, // a server that stands still is given up after that
};

// Nobody answers who says one of these. A connection that breaks is mostly UNAVAILABLE, at times
// INTERNAL or CANCELLED; a server that ends a stream of long standing says OK.
const REFUSALS = ["UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "INVALID_ARGUMENT"].map(
  (name) => grpc.status[name],
);

const waiting = []; // requests to be sent
let unanswered = 0; // those and the ones that are sent
let allRead = false;
let brokenAt; // since when no server is there, or none answered
let goOn = () => {};

const lanes = addresses.split(",").map((address) => ({
  client: new ClassifierService(address, grpc.credentials.createInsecure(), OPTIONS),
  stream: undefined, // none while its server is away
  owed: new Map(), // requests by id that were sent over it
  delayMs: 100,
}));

function open(lane) {
  lane.client.waitForReady(Date.now() + LONGEST_DELAY_MS, (error) => {
    if (isDone()) return;
    if (error) return ended(lane, { code: grpc.status.UNAVAILABLE, details: error.message });
    lane.stream = lane.client.ClassifyStream();
    lane.stream.on("data", (reply) => answered(lane, reply));
    lane.stream.on("error", () => {}); // its status says the same, and comes after every stream
    lane.stream.on("status", (status) => ended(lane, status));
    send();
  });
}

function send() {
  while (waiting.length > 0) {
    const ready = lanes.filter(({ stream }) => stream);
    const lane = ready.sort((one, other) => one.owed.size - other.owed.size)[0];
    if (lane === undefined || lane.owed.size >= Math.ceil(MAX_IN_FLIGHT / ready.length)) return;
    const request = waiting.shift();
    lane.owed.set(request.request_id, request);
    lane.stream.write(request);
  }
}

function answered(lane, { request_id, outcome, classification, error }) {
  const request = lane.owed.get(request_id);
  lane.owed.delete(request_id);
  if (error?.code === grpc.status.UNAVAILABLE) {
    // This server cannot answer now: another may.
    request.triedAt ??= Date.now();
    if (Date.now() < request.triedAt + RETRY_FOR_MS) {
      setTimeout(() => (waiting.push(request), send()), 500 + 500 * Math.random());
      return;
    }
  }
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
  unanswered -= 1;
  brokenAt = undefined;
  lane.delayMs = 100;
  goOn();
  send();
  if (isDone()) finish();
}

function ended(lane, { code, details }) {
  lane.stream = undefined;
  waiting.unshift(...lane.owed.values());
  lane.owed.clear();
  if (isDone()) return lane.client.close();
  if (lanes.some(({ stream }) => stream)) {
    send(); // The others go on.
  } else if (brokenAt === undefined) {
    brokenAt = Date.now();
    console.error(`the stream broke: ${details}; trying again for ${RETRY_FOR_MS / 1000} s`);
  }
  const leftMs = brokenAt === undefined ? RETRY_FOR_MS : brokenAt + RETRY_FOR_MS - Date.now();
  if (REFUSALS.includes(code) || leftMs <= 0) {
    console.error(`the stream broke for good: ${details}`);
    process.exit(1);
  }
  // At random, so that callers who broke off together do not come back together.
  setTimeout(() => open(lane), Math.min(leftMs, lane.delayMs * (0.5 + Math.random())));
  lane.delayMs = Math.min(LONGEST_DELAY_MS, 2 * lane.delayMs);
}

function isDone() {
  return allRead && unanswered === 0;
}

function finish() {
  for (const { stream, client } of lanes) stream ? stream.end() : client.close();
}

lanes.forEach(open);
for (const [number, file] of files.entries()) {
  while (unanswered >= MAX_IN_FLIGHT) await new Promise((go) => (goOn = go));
  unanswered += 1;
  waiting.push({ request_id: String(number), query: { image: readFileSync(file) } });
  send();
}
allRead = true;
if (isDone()) finish();
