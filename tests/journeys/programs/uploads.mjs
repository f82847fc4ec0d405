// node uploads.mjs CLIENT URL BYTES CODING [BYTES CODING ...]: uploads so much each time, prints the status, or 0.
// CODING is fixed or chunked.

import http from "node:http";
import { Readable } from "node:stream";

const [client, url, ...uploads] = process.argv.slice(2);
const PIECE = Buffer.alloc(65536);

function* pieces(size) {
  for (let sent = 0; sent < size; sent += PIECE.length) yield PIECE;
}

async function modern(size, chunked) {
  const body = chunked ? Readable.toWeb(Readable.from(pieces(size))) : Buffer.alloc(size);
  const answer = await fetch(url, { method: "POST", body, duplex: "half" });
  await answer.arrayBuffer();
  return answer.status;
}

function classic(size, chunked) {
  return new Promise((resolve, reject) => {
    const headers = chunked ? {} : { "Content-Length": size };
    const request = http.request(url, { method: "POST", headers }, (answer) => {
      answer.on("error", reject);
      answer.on("end", () => resolve(answer.statusCode));
      answer.resume();
    });
    request.on("error", reject);
    Readable.from(pieces(size)).pipe(request);
  });
}

for (let at = 0; at < uploads.length; at += 2) {
  const upload = client === "fetch" ? modern : classic;
  const status = await upload(Number(uploads[at]), uploads[at + 1] === "chunked").catch((error) => {
    console.error(error);
    return 0;
  });
  console.log(status);
}
process.exit(0); // what is still being sent keeps no one
