// The official SDK, told what to do line by line, so that tests in Python can drive it.
//
// node driver.mjs PACKAGE '{"url", "tokens", "protobuf"}'
// Input:  {"call": 1, "do": "subscribe", …}; ends when it closes.
// Output: {"answer": 1, "ok": …} or {"answer": 1, "error": {code, message}}, and events.
import { createInterface } from "node:readline";
// Node's own WebSocket does not say when a handshake fails, so the SDK would wait.
import { WebSocket } from "ws";

const [, , sdk, json] = process.argv;
const settings = JSON.parse(json);
const { Centrifuge } = await import(
  new URL(`node_modules/${sdk}/build/${settings.protobuf ? "protobuf/" : ""}index.mjs`, import.meta.url).href
);

const tell = (said) => process.stdout.write(`${JSON.stringify(said)}\n`);
const text = new TextDecoder();
const bytes = new TextEncoder();
// What is no JSON is written here as {"$bytes": base64}.
const pack = (value) => {
  if (!settings.protobuf) return value;
  return value?.$bytes ? Buffer.from(value.$bytes, "base64") : bytes.encode(JSON.stringify(value));
};
const unpack = (data) => {
  if (data === undefined || data === null) return null;
  if (!settings.protobuf) return data;
  if (data.length === 0) return null;
  try {
    return JSON.parse(text.decode(data));
  } catch {
    return { $bytes: Buffer.from(data).toString("base64") };
  }
};
const who = (info) => ({ user: info.user, connInfo: unpack(info.connInfo), chanInfo: unpack(info.chanInfo) });
const plain = (pub) => ({ offset: pub.offset ?? 0, data: unpack(pub.data),
  ...(pub.info ? who(pub.info) : { user: "" }) });

const tokens = [...settings.tokens];
const getToken = async () => {
  tell({ event: "token" });
  return tokens.shift() ?? "";
};
const client = new Centrifuge(settings.url, {
  websocket: WebSocket,
  token: settings.tokens.length > 1 ? tokens.shift() : settings.tokens[0],
  ...(settings.tokens.length > 1 ? { getToken } : {}),
  minReconnectDelay: 50,
  maxReconnectDelay: 500,
  timeout: 10000,
});

for (const state of ["connecting", "connected", "disconnected"]) {
  client.on(state, (ctx) => tell({ event: state, code: ctx.code ?? 0, reason: ctx.reason ?? "" }));
}
client.on("error", (ctx) => tell({ event: "error", type: ctx.type, code: ctx.error?.code ?? 0 }));
client.on("subscribed", (ctx) =>
  tell({ event: "server subscribed", channel: ctx.channel, recovered: ctx.recovered, wasRecovering: ctx.wasRecovering,
    data: unpack(ctx.data) }),
);
client.on("publication", (ctx) => tell({ event: "publication", channel: ctx.channel, ...plain(ctx) }));

const follow = ({ channel, token, renewals, since, states, members, delta, tags }) => {
  const subscription = client.newSubscription(channel, {
    ...(token ? { token } : {}),
    ...(renewals !== undefined ? { getToken: async () => renewals.shift() } : {}),
    ...(since !== undefined ? { since } : {}),
    ...(states !== undefined ? { getState: async () => states.shift() } : {}),
    ...(members ? { joinLeave: true } : {}),
    ...(delta ? { delta: "fossil" } : {}),
    ...(tags ? { tagsFilter: tags } : {}),
    minResubscribeDelay: 50,
  });
  subscription.on("subscribed", (ctx) =>
    tell({ event: "subscribed", channel, recovered: ctx.recovered, wasRecovering: ctx.wasRecovering,
      position: ctx.streamPosition ?? null, data: unpack(ctx.data) }),
  );
  subscription.on("subscribing", (ctx) => tell({ event: "subscribing", channel, code: ctx.code }));
  subscription.on("unsubscribed", (ctx) =>
    tell({ event: "unsubscribed", channel, code: ctx.code, reason: ctx.reason }),
  );
  for (const change of ["join", "leave"]) {
    subscription.on(change, (ctx) => tell({ event: change, channel, ...who(ctx.info) }));
  }
  subscription.on("publication", (ctx) => tell({ event: "publication", channel, ...plain(ctx) }));
  subscription.subscribe();
};

const calls = {
  connect: () => client.connect(),
  disconnect: () => client.disconnect(),
  subscribe: follow,
  unsubscribe: ({ channel }) => client.getSubscription(channel).unsubscribe(),
  resubscribe: ({ channel }) => client.getSubscription(channel).subscribe(),
  publish: async ({ channel, data }) => {
    await client.publish(channel, pack(data));
  },
  rpc: async ({ method, data }) => unpack((await client.rpc(method, pack(data))).data),
  history: async ({ channel, ...options }) => {
    const page = await client.history(channel, options);
    return { publications: page.publications.map(plain), offset: page.offset, epoch: page.epoch };
  },
  presence: async ({ channel }) => {
    const { clients } = await client.presence(channel);
    return Object.values(clients).map(who).sort((one, other) => (one.user < other.user ? -1 : 1));
  },
  counts: async ({ channel }) => {
    const { numClients, numUsers } = await client.presenceStats(channel);
    return { clients: numClients, users: numUsers };
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const { call, do: what, ...rest } = JSON.parse(line);
  try {
    tell({ answer: call, ok: (await calls[what](rest)) ?? null });
  } catch (error) {
    tell({ answer: call, error: { code: error.code ?? 0, message: error.message ?? String(error) } });
  }
});
lines.on("close", () => process.exit(0));
