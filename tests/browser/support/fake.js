/** A scripted edge: each connection is a peer whose commands the test awaits and whose messages it sends. */

import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { Inbox } from "./wait.js";

export class FakeEdge {
  #sockets;
  #server;
  #ownServer;
  #peers = new Inbox("a connection to the fake edge");
  /** All connections so far. */
  peers = [];
  /** While set, connections are refused as by an edge that is not ready. */
  refuses = false;

  /** @param {import("node:http").Server} [server] Its own where none is given. */
  static async start(server) {
    const own = server === undefined;
    const edge = new FakeEdge(server ?? createServer(), own);
    if (own) await new Promise((resolve) => edge.#server.listen(0, "127.0.0.1", resolve));
    return edge;
  }

  constructor(server, ownServer) {
    this.#server = server;
    this.#ownServer = ownServer;
    this.#sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has("trestle.v1.json") ? "trestle.v1.json" : false) });
    server.on("upgrade", (request, socket, head) => {
      if (this.refuses) socket.end("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
      else this.#sockets.handleUpgrade(request, socket, head, (webSocket) => this.#take(webSocket, request));
    });
  }

  get url() {
    return `ws://127.0.0.1:${this.#server.address().port}/ws`;
  }

  #take(webSocket, request) {
    const peer = new Peer(webSocket, request);
    this.peers.push(peer);
    this.#peers.push(peer);
  }

  /** The next connection. */
  accept(deadlineMs) {
    return this.#peers.next(deadlineMs);
  }

  /** A connection that is welcomed. */
  async welcome(welcome) {
    const peer = await this.accept();
    peer.welcome(welcome);
    return peer;
  }

  async close() {
    for (const peer of this.peers) peer.cut();
    this.#peers.end();
    if (this.#ownServer) await new Promise((resolve) => this.#server.close(resolve));
  }
}

export class Peer {
  #socket;
  #commands = new Inbox("a command of the client");
  closed = null;

  constructor(socket, request) {
    this.#socket = socket;
    this.protocol = socket.protocol;
    this.offered = (request.headers["sec-websocket-protocol"] ?? "").split(/, */);
    this.origin = request.headers.origin;
    socket.on("message", (data, binary) => this.#commands.push(binary ? data : JSON.parse(String(data))));
    socket.on("close", (code, reason) => {
      this.closed = { code, reason: String(reason) };
      this.#commands.end();
    });
    socket.on("error", () => {});
  }

  command(deadlineMs) {
    return this.#commands.next(deadlineMs);
  }

  get waitingCommands() {
    return this.#commands.size;
  }

  welcome(welcome = {}) {
    this.send({ welcome: { session: "s1", position: "p0", heartbeat_ms: 25_000, ...welcome } });
  }

  /** Takes a subscribe command, accepts it, and gives it. */
  async subscribed(position = "p0") {
    const command = await this.command();
    if (!command.subscribe) throw new Error(`not a subscribe command: ${JSON.stringify(command)}`);
    const { topics, topics_base64 } = command.subscribe;
    this.send({ reply: { id: command.id, subscribed: { topics, topics_base64, position, recorded: "all" } } });
    this.send({ caught_up: { id: command.id, position, replayed: 0 } });
    return command;
  }

  send(message) {
    this.#socket.send(typeof message === "string" || message instanceof Buffer ? message : JSON.stringify(message));
  }

  event(event) {
    this.send({ event });
  }

  close(code, reason = "") {
    this.#socket.close(code, reason);
  }

  /** As when a cable is pulled: no closing handshake. */
  cut() {
    this.#socket.terminate();
  }
}
