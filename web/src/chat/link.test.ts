import { Centrifuge } from "centrifuge";
import { expect, it } from "vitest";
import { keepTimes } from "./link";

it("keeps the commit time of publications, which the SDK would drop", () => {
  const sdk = new Centrifuge("ws://127.0.0.1:1");
  keepTimes(sdk);
  const build = Reflect.get(sdk, "_getPublicationContext") as (
    channel: string,
    publication: unknown,
  ) => unknown;

  const context = build.call(sdk, "room:lobby", { data: 1, offset: 2, time: 3 });

  expect(context).toMatchObject({ channel: "room:lobby", data: 1, offset: 2, time: 3 });
});
