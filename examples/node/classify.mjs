// Streams pictures to pagesight from Node: no generated code, the contract is read as it is.
//
//   npm ci --prefix examples/node
//   node examples/node/classify.mjs protos 127.0.0.1:50051 a.png b.png
//
// Prints one JSON object per picture, as the answers come: they overtake each other, so each
// carries the request_id of its question.
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
const stream = client.ClassifyStream();

stream.on("data", ({ request_id, outcome, classification, error }) => {
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
});
stream.on("error", (error) => {
  console.error(`the stream broke: ${error.message}`);
  process.exitCode = 1;
});
stream.on("end", () => client.close());

// write() says false when the server has enough for now: wait until it takes more.
for (const [number, file] of files.entries()) {
  const request = { request_id: String(number), query: { image: readFileSync(file) } };
  if (!stream.write(request)) await new Promise((go) => stream.once("drain", go));
}
stream.end();
