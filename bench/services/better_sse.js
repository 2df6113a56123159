// A service on better-sse and Node's own HTTP server: 600 events, one every 12 ms, then the end.
//
//   GET /stream            events without a pause, resumed after Last-Event-ID
//   GET /stream?quiet=1    an event every 7 s
//
// It prints its port, and ends when its standard input does.
import { createServer } from "node:http";
import { createSession } from "better-sse";

const EVENTS = 600;
const text = "x".repeat(380);

const server = createServer(async (request, response) => {
  if (request.method !== "GET" || !request.url.startsWith("/stream")) {
    response.writeHead(request.method === "GET" ? 404 : 405).end();
    return;
  }
  if (Number.parseInt(request.headers["last-event-id"], 10) >= EVENTS) {
    response.writeHead(204).end(); // the only way to tell a browser not to come back
    return;
  }
  const every = request.url.includes("quiet=1") ? 7000 : 12;
  const session = await createSession(request, response);
  let number = Number.parseInt(session.lastId, 10) || 0;
  const next = () => {
    if (!session.isConnected) return;
    if (number >= EVENTS) {
      response.end();
      return;
    }
    number += 1;
    session.push({ n: number, text }, "message", String(number));
    setTimeout(next, every);
  };
  next();
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit(0));
