// A worker of tools in thirty lines of Node: `npm install amqplib && node worker.mjs`.
import amqp from "amqplib";

const prefix = process.env.CHATMESH_PREFIX ?? "chatmesh";
const link = await amqp.connect(process.env.CHATMESH_AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/");
const channel = await link.createConfirmChannel();
const [pool, worker, exchange] = ["node", `node-${process.pid}`, `${prefix}.tools`];
const tools = [{ name: "reverse", description: "Turns a text around.", readOnly: true,
  parameters: { type: "object", properties: { text: { type: "string" } }, required: ["text"] },
  result: { type: "string" } }];
const run = { reverse: ({ text }) => [...text].reverse().join("") };

await channel.assertExchange(exchange, "topic", { durable: true });
const queue = (await channel.assertQueue(`${prefix}.tools.pool.${pool}`, { arguments: {
  "x-queue-type": "quorum", "x-delivery-limit": 20, "x-dead-letter-exchange": `${prefix}.dead`,
  "x-max-length": 1000, "x-overflow": "reject-publish" } })).queue;
await channel.bindQueue(queue, exchange, `call.${pool}`);
const register = () => channel.publish(exchange, "registry", Buffer.from(JSON.stringify({ worker, pool, ttlMs: 30000, tools })));
const asked = (await channel.assertQueue("", { exclusive: true })).queue;
await channel.bindQueue(asked, exchange, "discover");
await channel.consume(asked, register, { noAck: true });
await channel.prefetch(8);
await channel.consume(queue, (message) => {
  const { key, tool, arguments: given, deadlineMs } = JSON.parse(message.content);
  let result = { key, worker, state: "timeout", error: "the call arrived too late" };
  try { if (Date.now() < deadlineMs) result = { key, worker, state: "done", result: run[tool](given) }; }
  catch (error) { result = { key, worker, state: "failed", error: String(error) }; }
  channel.sendToQueue(message.properties.replyTo, Buffer.from(JSON.stringify(result)),
    { persistent: true, correlationId: key, type: "tool.result" }, (lost) => lost ? link.close() : channel.ack(message));
});
register();
setInterval(register, 10000);
