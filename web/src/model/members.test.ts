import { describe, expect, it } from "vitest";
import {
  counted,
  GONE_MAX,
  inOrder,
  joined,
  left,
  listed,
  NOBODY,
  readMembers,
  readPresenceNews,
  statusSet,
} from "./members";

const PAGE = {
  members: [
    { user: "bob", connections: 2, lost: true },
    { user: "ada", connections: 1, status: "at lunch", do_not_disturb: true },
  ],
  next: "",
  num_clients: 3,
  num_users: 2,
};

function page(answer: unknown = PAGE) {
  const read = readMembers(answer);
  if (read === undefined) {
    throw new Error("not a page");
  }
  return read;
}

describe("members", () => {
  it("are people: agents have a list of their own", () => {
    const agent = { user: "agent:owl", connections: 1, agent: { status: "idle" } };
    const read = page({ ...PAGE, members: [...PAGE.members, agent], num_users: 3 });
    expect(read.users).toBe(2);
    expect(read.people.map(({ user }) => user)).toEqual(["bob", "ada"]);
    const more = page({ ...PAGE, members: [agent], next: "x", num_users: 9 });
    expect(more.users).toBe(8);
    const members = listed(NOBODY, read);
    expect(joined(members, "agent:fox")).toBe(members);
    expect(left(members, "agent:owl", 1)).toBe(members);
  });

  it("are listed by name, oneself first", () => {
    const members = listed(NOBODY, page());
    expect(members.known).toBe(true);
    expect(inOrder(members, "zoe").map(({ user }) => user)).toEqual(["ada", "bob"]);
    expect(inOrder(members, "bob").map(({ user }) => user)).toEqual(["bob", "ada"]);
    expect(members.here.get("bob")?.away).toBe(true);
    expect(members.here.get("ada")?.status).toBe("at lunch");
  });

  it("come and go, and are remembered for a while", () => {
    let members = joined(listed(NOBODY, page()), "cid");
    expect(members.users).toBe(3);
    members = left(members, "ada", 1_000);
    expect([...members.here.keys()]).toEqual(["bob", "cid"]);
    expect(members.gone.get("ada")).toBe(1_000);
    expect(members.users).toBe(2);
    members = joined(members, "ada");
    expect(members.gone.size).toBe(0);
  });

  it("joined twice are one, and gone twice are gone once", () => {
    let members = joined(joined(NOBODY, "ada"), "ada");
    expect(members.users).toBe(1);
    members = left(left(members, "ada", 1), "ada", 2);
    expect(members.users).toBe(0);
    expect(members.gone.get("ada")).toBe(1);
  });

  it("gone long ago are forgotten first", () => {
    let members = NOBODY;
    for (let i = 0; i < GONE_MAX + 5; i++) {
      members = left(joined(members, `u${i}`), `u${i}`, i);
    }
    expect(members.gone.size).toBe(GONE_MAX);
    expect(members.gone.has("u4")).toBe(false);
    expect(members.gone.has("u5")).toBe(true);
  });

  it("of a large room are counted", () => {
    const members = counted(NOBODY, 4230, true);
    expect([members.users, members.large]).toEqual([4230, true]);
  });

  it("have a status", () => {
    const members = statusSet(listed(NOBODY, page()), "bob", "away", false);
    expect(members.here.get("bob")?.status).toBe("away");
    expect(statusSet(members, "nobody", "x", true)).toBe(members);
  });

  it("of a whole list are as many as it has, whatever was counted before", () => {
    expect(page({ ...PAGE, num_users: 1 }).users).toBe(2);
    expect(page({ ...PAGE, num_users: 700, next: "bob" }).users).toBe(700);
  });

  it("are read with suspicion", () => {
    expect(readMembers(undefined)).toBeUndefined();
    expect(readMembers({ members: "all" })).toBeUndefined();
    expect(
      page({ members: [{}, { user: "" }, 7, { user: "ada" }] }).people,
    ).toHaveLength(1);
  });
});

describe("news of presence", () => {
  it("are counts, typing and status", () => {
    expect(readPresenceNews({ type: "presence", num_users: 9, large: true })).toEqual({
      kind: "counts",
      users: 9,
      large: true,
    });
    expect(readPresenceNews({ type: "typing", user: "ada", ttl_ms: 5000 })).toEqual({
      kind: "typing",
      user: "ada",
      ttlMs: 5000,
    });
    expect(
      readPresenceNews({
        type: "status",
        user: "ada",
        text: "at lunch",
        do_not_disturb: true,
      }),
    ).toEqual({ kind: "status", user: "ada", status: "at lunch", doNotDisturb: true });
  });

  it("are nothing else", () => {
    for (const data of [null, 1, {}, { type: "typing" }, { type: "presence" }]) {
      expect(readPresenceNews(data)).toBeUndefined();
    }
  });
});
