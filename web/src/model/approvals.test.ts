import { describe, expect, it } from "vitest";
import { argumentsRefused, countdown, eligibleInWords, mayAnswer } from "./approvals";
import type { Approval } from "./runs";

function approval(roles: string[], requester: string): Approval {
  return {
    id: "a1",
    toolCallId: "c1",
    tool: "mail",
    arguments: {},
    digest: "d",
    deadlineMs: 0,
    eligible: { roles, requester },
    outcome: "",
    by: "",
  };
}

describe("an approval", () => {
  it("may be given by who asked, and by roles from the named one upwards", () => {
    expect(mayAnswer(approval([], "ada"), "ada", "guest")).toBe(true);
    expect(mayAnswer(approval([], "ada"), "bob", "owner")).toBe(false);
    expect(mayAnswer(approval(["moderator"], "ada"), "bob", "owner")).toBe(true);
    expect(mayAnswer(approval(["moderator"], "ada"), "bob", "moderator")).toBe(true);
    expect(mayAnswer(approval(["moderator"], "ada"), "bob", "member")).toBe(false);
    expect(mayAnswer(approval(["odd"], ""), "", "odd")).toBe(false);
  });

  it("says whom it waits for", () => {
    expect(eligibleInWords(approval(["owner"], "ada"))).toBe("ada or a room's owner");
    expect(eligibleInWords(approval([], ""))).toBe("nobody");
  });

  it("takes one JSON object as arguments", () => {
    expect(argumentsRefused('{"to": "bob"}')).toBeUndefined();
    for (const typed of ["", "[1]", "null", '{"to"']) {
      expect(argumentsRefused(typed)).toBeTypeOf("string");
    }
  });

  it("counts down and stops at nothing", () => {
    expect(countdown(90_000, 0)).toBe("1:30");
    expect(countdown(3_723_000, 0)).toBe("1:02:03");
    expect(countdown(0, 5_000)).toBe("0:00");
  });
});
