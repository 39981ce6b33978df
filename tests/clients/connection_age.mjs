// HTTP/2 with prior knowledge on connections that age, by Node's own client: ADDRESS PICTURE SECONDS.
//
// The server runs with --max-connection-age. Fails where a request was lost, or where the client stayed on its first
// connection.

import { readFileSync } from "node:fs";
import http2 from "node:http2";

const [address, picturePath, seconds = "6"] = process.argv.slice(2);
const picture = readFileSync(picturePath);
const path = "/v2/models/flowers-sample/infer";
const end = Date.now() + Number(seconds) * 1000;
let session, connections = 0, farewells = 0, answered = 0, again = 0;

/** The connection for the next request: another one once the server has said farewell on the last. */
function current() {
  if (!session || session.closed || session.destroyed) {
    const opened = http2.connect(`http://${address}`);
    connections += 1;
    // Errors are those of the requests on it.
    opened.on("error", () => {});
    opened.on("goaway", (code) => {
      if (code === http2.constants.NGHTTP2_NO_ERROR) farewells += 1;
      // A server says it twice: the second one must not close the connection that came after the first.
      if (!opened.closed) opened.close();
    });
    session = opened;
  }
  return session;
}

function predict() {
  return new Promise((resolve, reject) => {
    let request;
    try {
      request = current().request({ ":method": "POST", ":path": path, "content-type": "image/jpeg" });
    } catch (error) {
      // Nothing was sent: the farewell came first.
      return resolve(["ERR_HTTP2_GOAWAY_SESSION", "ERR_HTTP2_INVALID_SESSION"].includes(error.code) ? "again" : reject(error));
    }
    let status;
    const body = [];
    request.on("response", (headers) => (status = headers[":status"]));
    request.on("data", (data) => body.push(data));
    request.on("end", () => resolve(status === 200 ? "answered" : reject(new Error(`${status} ${Buffer.concat(body)}`))));
    request.on("error", (error) => {
      // A stream that the server has not taken is refused as such, and may be sent again by HTTP/2's own rules.
      const refused = request.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM;
      return refused ? resolve("again") : reject(error);
    });
    request.end(picture);
  });
}

async function load() {
  while (Date.now() < end) {
    if ((await predict()) === "answered") answered += 1;
    else again += 1;
  }
}

await Promise.all([load(), load(), load(), load()]);
session?.close();
console.log(JSON.stringify({ answered, connections, farewells, again }));
if (answered === 0 || connections < 2 || farewells === 0) process.exit(1);
