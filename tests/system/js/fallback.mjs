// The official SDK over an HTTP fallback, told what to do line by line on its input.
//
// node fallback.mjs PACKAGE '{"transport", "endpoint", "emulation", "token", "protobuf"}'
// Input: {"do": "subscribe" | "send" | "history" | "presence" | "counts" | "unsubscribe" | "stop", …}
// Output: {"heard": "connected" | "connecting" | "disconnected" | "publication" | …, …}

import { createInterface } from "node:readline";

const [name, spec] = process.argv.slice(2);
const { transport, endpoint, emulation, token, protobuf } = JSON.parse(spec);
const { Centrifuge } = await import(protobuf ? `${name}/build/protobuf` : name);

/** As much of the browser's EventSource as the SDK uses: Node 20 has none. */
class Events {
  constructor(url) {
    this.abort = new AbortController();
    this.run(url).catch((error) => this.onerror?.(error));
  }

  async run(url) {
    const response = await fetch(url, { signal: this.abort.signal });
    if (!response.ok) {
      throw new Error(`status ${response.status}`);
    }
    this.onopen?.();
    let text = "";
    const decoder = new TextDecoder();
    for await (const part of response.body) {
      text += decoder.decode(part, { stream: true });
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        const lines = event.split("\n").filter((line) => line.startsWith("data: "));
        if (lines.length > 0) {
          this.onmessage?.({ data: lines.map((line) => line.slice(6)).join("\n") });
        }
      }
    }
    throw new Error("the stream has ended");
  }

  close() {
    this.abort.abort();
  }
}

const tell = (heard, more = {}) => console.log(JSON.stringify({ heard, ...more }));
const plain = (data) =>
  data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(data)) : data;
const given = (data) =>
  protobuf ? new TextEncoder().encode(JSON.stringify(data)) : data;

const client = new Centrifuge([{ transport, endpoint }], {
  token,
  emulationEndpoint: emulation,
  eventsource: Events,
  minReconnectDelay: 100,
  maxReconnectDelay: 500,
});
client.on("connected", ({ transport: over, client: id }) => tell("connected", { over, id }));
client.on("connecting", ({ code, reason }) => tell("connecting", { code, reason }));
client.on("disconnected", ({ code, reason }) => tell("disconnected", { code, reason }));
client.connect();

const steps = {
  subscribe({ channel, members = false }) {
    const subscription =
      client.getSubscription(channel) ??
      client.newSubscription(channel, { joinLeave: members });
    subscription.removeAllListeners();
    subscription.on("subscribed", ({ wasRecovering, recovered }) =>
      tell("subscribed", { channel, wasRecovering, recovered }),
    );
    subscription.on("unsubscribed", ({ code }) => tell("unsubscribed", { code }));
    subscription.on("publication", ({ data, offset }) =>
      tell("publication", { data: plain(data), offset }),
    );
    for (const change of ["join", "leave"]) {
      subscription.on(change, ({ info }) => tell(change, { user: info.user }));
    }
    subscription.subscribe();
  },
  unsubscribe({ channel }) {
    client.getSubscription(channel).unsubscribe();
  },
  async send(message) {
    const { data } = await client.rpc("message.send", given(message));
    tell("sent", { data: plain(data) });
  },
  async history({ channel }) {
    const page = await client.history(channel, { limit: 100 });
    tell("history", { offsets: page.publications.map(({ offset }) => offset) });
  },
  async presence({ channel }) {
    const { clients } = await client.presence(channel);
    tell("presence", { users: Object.values(clients).map(({ user }) => user).sort() });
  },
  async counts({ channel }) {
    const { numClients, numUsers } = await client.presenceStats(channel);
    tell("counts", { clients: numClients, users: numUsers });
  },
  stop() {
    client.disconnect();
    process.exit(0);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: step, ...how } = JSON.parse(line);
  try {
    await steps[step](how);
  } catch (error) {
    tell("failed", { code: error.code, message: error.message ?? String(error) });
  }
}
