// node calls.mjs CLIENT BASE METHOD PATH [METHOD PATH ...]: makes each call once and prints its status, or 0.

import http from "node:http";
import https from "node:https";

const BODY = '{"amount": 1}';
const [client, base, ...calls] = process.argv.slice(2);
const module = base.startsWith("https:") ? https : http;
const agent = new module.Agent({ keepAlive: true });

async function modern(method, url) {
  const answer = await fetch(url, { method, body: method === "POST" ? BODY : undefined });
  await answer.arrayBuffer();
  return answer.status;
}

function classic(method, url) {
  return new Promise((resolve, reject) => {
    const request = module.request(url, { method, agent }, (answer) => {
      answer.on("error", reject);
      answer.on("end", () => resolve(answer.statusCode));
      answer.resume();
    });
    request.on("error", reject);
    request.end(method === "POST" ? BODY : undefined);
  });
}

for (let at = 0; at < calls.length; at += 2) {
  const call = client === "fetch" ? modern : classic;
  console.log(await call(calls[at], base + calls[at + 1]).catch(() => 0));
}
agent.destroy();
