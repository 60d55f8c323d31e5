// The official JavaScript SDK as a member: it follows rooms, sends to them, and tells
// what it was given, one JSON object a line. Ends when its standard input closes.
//
//   node --experimental-websocket node_client.mjs SDK_FOLDER '{"url":…,"token":…,…}'
//
// Times are seconds of the machine's monotonic clock, which Python reads as well.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [, , sdk, json] = process.argv;
const settings = JSON.parse(json);
const { Centrifuge } = await import(pathToFileURL(`${sdk}/build/index.mjs`).href);

const now = () => Number(process.hrtime.bigint()) / 1e9;
const tell = (event) => process.stdout.write(`${JSON.stringify({ at: now(), ...event })}\n`);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const client = new Centrifuge(settings.url, { token: settings.token, websocket: WebSocket });
client.on("disconnected", ({ code, reason }) => {
  if (code !== 0) tell({ event: "goodbye", code, reason });
});

const rooms = settings.channels.map((channel) => {
  const subscription = client.newSubscription(channel);
  const room = { channel, position: -1, held: null, holeTop: 0 };
  const see = (pub, how) => {
    room.position = pub.offset;
    const { id, text } = pub.data;
    tell({ event: "seen", channel, offset: pub.offset, id, author: pub.info?.user ?? "", text, how });
  };
  const page = async (epoch) => {
    while (room.position < room.holeTop) {
      try {
        const since = { offset: room.position, epoch };
        const { publications } = await subscription.history({ since, limit: 500 });
        for (const pub of publications) if (pub.offset <= room.holeTop) see(pub, "paged");
      } catch {
        await sleep(200);
      }
    }
    const held = room.held;
    room.held = null;
    for (const pub of held) see(pub, "live");
  };
  subscription.on("subscribed", (ctx) => {
    const { epoch, offset } = ctx.streamPosition;
    const start = ctx.wasRecovering ? room.position : offset;
    room.position = start;
    const { wasRecovering: recovering, recovered } = ctx;
    tell({ event: "life", channel, epoch, start, recovering, recovered });
    if (recovering && !recovered) {
      room.holeTop = offset;
      const paging = room.held !== null;
      room.held = [];
      if (!paging) page(epoch);
    }
  });
  subscription.on("publication", (pub) => {
    if (room.held === null) see(pub, "live");
    else room.held.push(pub);
  });
  subscription.on("unsubscribed", ({ code }) => {
    if (code !== 0) tell({ event: "trouble", what: `unsubscribed with ${code}` });
  });
  subscription.subscribe();
  return room;
});

let talking = true;
const settled = async (channel, number) => {
  const id = `${settings.name}-${number}`;
  const data = { channel, id, text: `${id} says hello` };
  tell({ event: "message", channel, id, text: data.text });
  for (;;) {
    const sent = now();
    try {
      const { data: answer } = await client.rpc("message.send", data);
      tell({ event: "attempt", channel, id, sent, offset: answer.offset });
      return;
    } catch (error) {
      tell({ event: "attempt", channel, id, sent, code: error.code, temporary: error.temporary });
      if (error.code >= 100 && !error.temporary) return;
      await sleep(100 + 400 * Math.random());
    }
  }
};
const talk = async () => {
  for (let number = 0; talking; number += 1) {
    await settled(rooms[number % rooms.length].channel, number);
    await sleep(settings.pause_ms);
  }
  tell({ event: "settled" });
};

client.connect();
talk();
createInterface({ input: process.stdin })
  .on("line", () => {
    talking = false;
  })
  .on("close", () => process.exit(0));
