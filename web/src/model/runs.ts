/**
 * What agents do in a room right now, put together from events that may be lost, doubled
 * or late, and from snapshots that have it all.
 *
 * Events of a run are taken strictly by `seq`; what comes from beyond a hole waits in
 * `ahead`, unseen, until the hole is filled or a snapshot has made it irrelevant. So text
 * is never doubled and never out of order, and `wantsSnapshot` says when to ask for one.
 * A higher epoch (another owner) and a higher attempt (said anew) may jump; lower ones
 * are ignored. The run's durable message ends it here.
 *
 * The terminal has the same rules in Python, and both are held to tests/vectors/runs.json.
 */

import { isRecord } from "./entries";
import {
  type AgentFace,
  type ApprovalAsked,
  asText,
  type RunEvent,
  type RunSnapshot,
  type RunStatus,
  readApproval,
  readDetail,
  readFace,
  readStatus,
  type StatusDetail,
  textOf,
} from "./run-events";

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  /** JSON as it comes, perhaps not whole yet. */
  readonly arguments: string;
  /** "asking" while arguments come, "running", "approval", then how it ended. */
  readonly state: string;
  /** 0 to 1; undefined when nobody can say. */
  readonly progress: number | undefined;
  readonly note: string;
  readonly result: string;
}

export interface Step {
  readonly step: number;
  readonly text: string;
  /** Of `text`, in code points, as offsets count. */
  readonly length: number;
  readonly tools: readonly ToolCall[];
}

export interface Approval extends ApprovalAsked {
  /** Empty while it is open. */
  readonly outcome: string;
  readonly by: string;
}

export interface Run {
  readonly id: string;
  readonly face: AgentFace;
  readonly trigger: string;
  readonly requester: string;
  readonly attempt: number;
  readonly epoch: number;
  /** Of the last event that is in here. */
  readonly seq: number;
  readonly status: RunStatus;
  readonly detail: StatusDetail;
  readonly steps: readonly Step[];
  readonly approvals: readonly Approval[];
  /** The last event has come; the durable message has it all. */
  readonly ended: boolean;
  /** Events from beyond a hole, ascending. */
  readonly ahead: readonly RunEvent[];
  /** Something is lost that `seq` cannot show: until a snapshot comes, events wait. */
  readonly stale: boolean;
  readonly heardMs: number;
}

export interface Runs {
  readonly live: ReadonlyMap<string, Run>;
  /** Runs whose durable message is here, the latest last. */
  readonly over: ReadonlySet<string>;
}

export const NO_RUNS: Runs = { live: new Map(), over: new Set() };

/** Beyond this a hole is left to the snapshot alone. */
const AHEAD_MAX = 1_000;
/** Late events of a run that ended longer ago than these others would show it again. */
const OVER_MAX = 500;
/** A run says something every two seconds; this long without a word is suspicious. */
export const SILENT_MS = 8_000;

/** A takeover takes 15 seconds at most; so long without a word there is nobody at work. */
export const LIFELESS_MS = 20_000;

/** One event, whenever it comes. */
export function told(runs: Runs, event: RunEvent, nowMs: number): Runs {
  if (runs.over.has(event.run)) {
    return runs;
  }
  const known = runs.live.get(event.run);
  const before = known ?? unknown(event);
  const after = heard(before, event);
  if (after === before && known !== undefined) {
    return runs;
  }
  return withRun(runs, { ...after, heardMs: nowMs });
}

/** A snapshot of all runs of the room, taken at some moment between then and now. */
export function snapshotTaken(
  runs: Runs,
  snapshots: readonly RunSnapshot[],
  nowMs: number,
): Runs {
  const live = new Map(runs.live);
  const alive = new Set(snapshots.map(({ run }) => run));
  for (const run of runs.live.values()) {
    // One that has just begun may be missing from it; one long silent has ended.
    if (!alive.has(run.id) && nowMs - run.heardMs >= SILENT_MS) {
      live.delete(run.id);
    }
  }
  for (const snapshot of snapshots) {
    const known = live.get(snapshot.run);
    if (
      !runs.over.has(snapshot.run) &&
      (known === undefined || isNews(snapshot, known))
    ) {
      const ahead = known?.ahead.filter((event) => isBeyond(event, snapshot)) ?? [];
      live.set(snapshot.run, {
        ...ahead.reduce(heard, keptAnswers(fromSnapshot(snapshot), known)),
        heardMs: nowMs,
      });
    }
  }
  return { ...runs, live };
}

/** The durable message of a run has come, or was there before. */
export function runOver(runs: Runs, id: string): Runs {
  if (runs.over.has(id)) {
    return runs;
  }
  const live = new Map(runs.live);
  live.delete(id);
  const over = new Set(runs.over).add(id);
  for (const oldest of over) {
    if (over.size <= OVER_MAX) {
      break;
    }
    over.delete(oldest);
  }
  return { live, over };
}

/** Whether a snapshot would tell something that is not here. */
export function wantsSnapshot(runs: Runs, nowMs: number): boolean {
  return [...runs.live.values()].some(
    (run) => isMissing(run) || nowMs - run.heardMs >= SILENT_MS,
  );
}

/** Something that was said is not here: a snapshot has it. */
export function isMissing(run: Run): boolean {
  return run.stale || run.ahead.length > 0;
}

/** Nobody seems to be at work on it. Whoever waits in line says nothing, and is all right. */
export function isLifeless(run: Run, nowMs: number): boolean {
  return !run.ended && run.status !== "queued" && nowMs - run.heardMs >= LIFELESS_MS;
}

/** The text of a run as it stands. */
export function textOfRun(run: Run): string {
  return run.steps.map(({ text }) => text).join("");
}

function withRun(runs: Runs, run: Run): Runs {
  return { ...runs, live: new Map(runs.live).set(run.id, run) };
}

function unknown(event: RunEvent): Run {
  const starts = event.type === "RUN_STARTED" && event.attempt <= 1;
  return {
    id: event.run,
    face: { name: event.agent, title: event.agent, picture: "" },
    trigger: "",
    requester: "",
    attempt: event.attempt,
    epoch: event.epoch,
    seq: starts ? event.seq - 1 : 0,
    status: "thinking",
    detail: { tool: "", position: 0 },
    steps: [],
    approvals: [],
    ended: false,
    ahead: [],
    stale: !starts,
    heardMs: 0,
  };
}

function fromSnapshot(snapshot: RunSnapshot): Run {
  const { run, face, trigger, requester, attempt, epoch, seq, status, detail } =
    snapshot;
  return {
    id: run,
    face,
    trigger,
    requester,
    attempt,
    epoch,
    seq,
    status,
    detail,
    steps: snapshot.steps.map((step) => ({ ...step, length: lengthOf(step.text) })),
    approvals: snapshot.approvals.map((asked) => ({ ...asked, outcome: "", by: "" })),
    ended: false,
    ahead: [],
    stale: false,
    heardMs: 0,
  };
}

/** A snapshot holds what is open; what was answered here stays to be seen. */
function keptAnswers(run: Run, before: Run | undefined): Run {
  const ids = new Set(run.approvals.map(({ id }) => id));
  const answered =
    before?.approvals.filter(({ id, outcome }) => outcome !== "" && !ids.has(id)) ?? [];
  return answered.length === 0
    ? run
    : { ...run, approvals: [...answered, ...run.approvals] };
}

/** Whether a snapshot knows something that is not here, and nothing less. */
function isNews(snapshot: RunSnapshot, run: Run): boolean {
  if (snapshot.epoch !== run.epoch) {
    return snapshot.epoch > run.epoch;
  }
  if (snapshot.attempt !== run.attempt) {
    return snapshot.attempt > run.attempt;
  }
  return snapshot.seq > run.seq || (snapshot.seq === run.seq && run.stale);
}

function isBeyond(event: RunEvent, snapshot: RunSnapshot): boolean {
  if (event.epoch !== snapshot.epoch) {
    return event.epoch > snapshot.epoch;
  }
  if (event.attempt !== snapshot.attempt) {
    return event.attempt > snapshot.attempt;
  }
  return event.seq > snapshot.seq;
}

function heard(run: Run, event: RunEvent): Run {
  if (event.epoch < run.epoch || event.attempt < run.attempt) {
    return run;
  }
  if (event.attempt > run.attempt) {
    const anew = saidAnew(run, event);
    return beginsAnew(run, event)
      ? drained(applied(anew, event))
      : waits({ ...anew, stale: true }, event);
  }
  if (event.epoch > run.epoch && event.seq !== run.seq + 1) {
    // Another owner goes on from what it has stored, which may be less than was said.
    return waits({ ...run, epoch: event.epoch, seq: 0, ahead: [], stale: true }, event);
  }
  return event.seq <= run.seq ? run : drained(waits(run, event));
}

/** Whether nothing that stays can be incomplete: all is said anew, or nothing was missed. */
function beginsAnew(run: Run, event: RunEvent): boolean {
  const follows = event.attempt === run.attempt + 1 && event.seq === run.seq + 1;
  return !run.stale && customName(event) === "attempt" && (event.step <= 1 || follows);
}

/** From this step on everything is said anew. */
function saidAnew(run: Run, event: RunEvent): Run {
  const dropped = new Set(
    run.steps
      .filter(({ step }) => step >= event.step)
      .flatMap(({ tools }) => tools.map(({ id }) => id)),
  );
  return {
    ...run,
    attempt: event.attempt,
    epoch: event.epoch,
    ended: false,
    steps: run.steps.filter(({ step }) => step < event.step),
    approvals: run.approvals.filter(({ toolCallId }) => !dropped.has(toolCallId)),
    ahead: run.ahead.filter(({ attempt }) => attempt >= event.attempt),
  };
}

function waits(run: Run, event: RunEvent): Run {
  if (run.ahead.some(({ seq }) => seq === event.seq)) {
    return run;
  }
  const ahead = [...run.ahead, event].sort((a, b) => a.seq - b.seq);
  return { ...run, ahead: ahead.slice(0, AHEAD_MAX) };
}

/** Take what waits, as far as it follows now. */
function drained(run: Run): Run {
  let now = run;
  for (;;) {
    const [next, ...rest] = now.ahead;
    if (next === undefined || now.stale || next.seq > now.seq + 1) {
      return now;
    }
    now = { ...now, ahead: rest };
    if (next.seq === now.seq + 1) {
      now = applied(now, next);
    }
  }
}

/** The run with this event in it, or stale when its text does not fit. */
function applied(run: Run, event: RunEvent): Run {
  const { step, off, data, type } = event;
  const here = run.steps.find((each) => each.step === step);
  const saysWhere =
    type === "TEXT_MESSAGE_CONTENT" || customName(event) === "heartbeat";
  if (saysWhere && off > (here?.length ?? 0)) {
    return waits({ ...run, stale: true }, event);
  }
  const now = { ...run, seq: event.seq, epoch: event.epoch };
  switch (type) {
    case "RUN_STARTED":
      return {
        ...now,
        face: readFace(data["agent"]) ?? run.face,
        trigger: textOf(data["trigger"]) || run.trigger,
        requester: textOf(data["requester"]) || run.requester,
      };
    case "TEXT_MESSAGE_CONTENT":
      return withStep(now, step, (before) => {
        // What overlaps was said before.
        const delta = [...textOf(data["delta"])].slice(before.length - off);
        const text = before.text + delta.join("");
        return { ...before, text, length: before.length + delta.length };
      });
    case "TOOL_CALL_START":
      return withTool(now, event, (tool) => ({
        ...tool,
        name: textOf(data["toolCallName"]) || tool.name,
      }));
    case "TOOL_CALL_ARGS":
      return withTool(now, event, (tool) => ({
        ...tool,
        arguments: tool.arguments + textOf(data["delta"]),
      }));
    case "TOOL_CALL_END":
      return withTool(now, event, (tool) => ({
        ...tool,
        state: tool.state === "asking" ? "running" : tool.state,
      }));
    case "TOOL_CALL_RESULT":
      return withTool(now, event, (tool) => ({
        ...tool,
        state: textOf(data["outcome"]) || "done",
        result: asText(data["content"]),
      }));
    case "RUN_FINISHED":
    case "RUN_ERROR":
      return { ...now, ended: true };
    case "CUSTOM":
      return custom(now, event);
    default:
      return now;
  }
}

function custom(run: Run, event: RunEvent): Run {
  const value = valueIn(event);
  switch (customName(event)) {
    case "status":
      return {
        ...run,
        status: readStatus(value["status"]) ?? run.status,
        detail: readDetail(value),
      };
    case "tool.progress": {
      const { progress } = value;
      return withTool(run, event, (tool) => ({
        ...tool,
        progress: typeof progress === "number" ? progress : undefined,
        note: textOf(value["text"]),
      }));
    }
    case "approval.requested": {
      const asked = readApproval(value);
      if (asked === undefined || run.approvals.some(({ id }) => id === asked.id)) {
        return run;
      }
      const approvals = [...run.approvals, { ...asked, outcome: "", by: "" }];
      return withTool({ ...run, approvals }, event, (tool) => ({
        ...tool,
        state: "approval",
      }));
    }
    case "approval.answered": {
      const outcome = textOf(value["outcome"]);
      const answered = run.approvals.find(({ id }) => id === value["approval"]);
      if (answered === undefined) {
        return run;
      }
      const approvals = run.approvals.map((each) =>
        each === answered
          ? {
              ...each,
              outcome,
              by: textOf(value["by"]),
              arguments: value["arguments"] ?? each.arguments,
            }
          : each,
      );
      return withToolOf({ ...run, approvals }, answered.toolCallId, (tool) => ({
        ...tool,
        state: tool.state === "approval" ? afterApproval(outcome) : tool.state,
      }));
    }
    default:
      return run;
  }
}

function afterApproval(outcome: string): string {
  return outcome === "approved" ? "running" : outcome || "denied";
}

function withStep(run: Run, step: number, change: (before: Step) => Step): Run {
  const here = run.steps.find((each) => each.step === step);
  if (here !== undefined) {
    const steps = run.steps.map((each) => (each === here ? change(here) : each));
    return { ...run, steps };
  }
  const added = change({ step, text: "", length: 0, tools: [] });
  return { ...run, steps: [...run.steps, added].sort((a, b) => a.step - b.step) };
}

/** Change the tool call an event is about; one not heard of before begins here. */
function withTool(
  run: Run,
  event: RunEvent,
  change: (before: ToolCall) => ToolCall,
): Run {
  const id = textOf(event.data["toolCallId"]) || textOf(valueIn(event)["toolCallId"]);
  if (id === "") {
    return run;
  }
  if (run.steps.some(({ tools }) => tools.some((tool) => tool.id === id))) {
    return withToolOf(run, id, change);
  }
  const begun = {
    id,
    name: textOf(valueIn(event)["tool"]),
    arguments: "",
    state: "asking",
    progress: undefined,
    note: "",
    result: "",
  };
  return withStep(run, event.step, (before) => ({
    ...before,
    tools: [...before.tools, change(begun)],
  }));
}

function withToolOf(run: Run, id: string, change: (before: ToolCall) => ToolCall): Run {
  return {
    ...run,
    steps: run.steps.map((step) =>
      step.tools.some((tool) => tool.id === id)
        ? {
            ...step,
            tools: step.tools.map((tool) => (tool.id === id ? change(tool) : tool)),
          }
        : step,
    ),
  };
}

function customName(event: RunEvent): string {
  return event.type === "CUSTOM" ? textOf(event.data["name"]) : "";
}

function valueIn(event: RunEvent): Readonly<Record<string, unknown>> {
  const { value } = event.data;
  return isRecord(value) ? value : {};
}

/** In code points, as the mesh counts; `length` of a string counts UTF-16 units. */
function lengthOf(text: string): number {
  let length = 0;
  for (const _ of text) {
    length++;
  }
  return length;
}
