/** What the mesh tells of agents' runs, as this page reads it: events, snapshots, answers. */

import { isRecord } from "./entries";

export type RunStatus = "queued" | "thinking" | "tool" | "streaming" | "approval";

export interface AgentFace {
  readonly name: string;
  readonly title: string;
  /** An emoji or a letter or two; empty where there is none. */
  readonly picture: string;
}

/** One ephemeral publication of a run. */
export interface RunEvent {
  readonly run: string;
  readonly agent: string;
  readonly attempt: number;
  readonly epoch: number;
  readonly step: number;
  readonly seq: number;
  /** Code points of the step's text before this event. */
  readonly off: number;
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface Eligible {
  readonly roles: readonly string[];
  readonly requester: string;
}

export interface ApprovalAsked {
  readonly id: string;
  readonly toolCallId: string;
  readonly tool: string;
  readonly arguments: unknown;
  readonly digest: string;
  readonly deadlineMs: number;
  readonly eligible: Eligible;
}

export interface ToolSnapshot {
  readonly id: string;
  readonly name: string;
  readonly arguments: string;
  readonly state: string;
  readonly progress: number | undefined;
  readonly note: string;
  readonly result: string;
}

/** A whole run as the agent service knows it, up to and including the event `seq`. */
export interface RunSnapshot {
  readonly run: string;
  readonly face: AgentFace;
  readonly trigger: string;
  readonly requester: string;
  readonly attempt: number;
  readonly epoch: number;
  readonly seq: number;
  readonly status: RunStatus;
  readonly detail: StatusDetail;
  readonly steps: readonly {
    readonly step: number;
    readonly text: string;
    readonly tools: readonly ToolSnapshot[];
  }[];
  readonly approvals: readonly ApprovalAsked[];
}

export interface StatusDetail {
  readonly tool: string;
  /** Place in line; 0 when there is none. */
  readonly position: number;
}

const STATUSES: readonly string[] = [
  "queued",
  "thinking",
  "tool",
  "streaming",
  "approval",
];

/** Users with this prefix are agents: the mesh lets nobody else have it. */
export const AGENT_PREFIX = "agent:";

/** Whether an agent, or a backend that speaks for one, published this. */
export function mayBeAgent(user: string | undefined): boolean {
  return user === undefined || user.startsWith(AGENT_PREFIX);
}

/** Read a run event; undefined for any other publication. */
export function readRunEvent(data: unknown): RunEvent | undefined {
  if (!isRecord(data)) {
    return undefined;
  }
  const { run, agent, type, attempt, epoch, step, seq } = data;
  if (
    typeof run !== "string" ||
    typeof agent !== "string" ||
    typeof type !== "string"
  ) {
    return undefined;
  }
  if (!isCount(attempt) || !isCount(epoch) || !isCount(step) || !isCount(seq)) {
    return undefined;
  }
  return {
    run,
    agent,
    attempt,
    epoch,
    step,
    seq,
    off: isCount(data["off"]) ? data["off"] : 0,
    type,
    data: isRecord(data["data"]) ? data["data"] : {},
  };
}

/** Read the answer to `run.snapshot`; undefined when it is none. */
export function readSnapshots(answer: unknown): RunSnapshot[] | undefined {
  if (!isRecord(answer) || !Array.isArray(answer["runs"])) {
    return undefined;
  }
  const runs: unknown[] = answer["runs"];
  return runs.flatMap((run) => readSnapshot(run) ?? []);
}

function readSnapshot(value: unknown): RunSnapshot | undefined {
  if (!isRecord(value) || typeof value["run"] !== "string") {
    return undefined;
  }
  const { attempt, epoch, seq } = value;
  if (!isCount(attempt) || !isCount(epoch) || !isCount(seq)) {
    return undefined;
  }
  const name = textOf(value["agent"]);
  return {
    run: value["run"],
    face: readFace({ ...value, name }) ?? { name, title: name, picture: "" },
    trigger: textOf(value["trigger"]),
    requester: textOf(value["requester"]),
    attempt,
    epoch,
    seq,
    status: readStatus(value["status"]) ?? "thinking",
    detail: readDetail(value["statusDetail"]),
    steps: listOf(value["steps"]).flatMap((step) =>
      isRecord(step) && isCount(step["step"])
        ? [
            {
              step: step["step"],
              text: textOf(step["text"]),
              tools: listOf(step["tools"]).flatMap((tool) => readTool(tool) ?? []),
            },
          ]
        : [],
    ),
    approvals: listOf(value["approvals"]).flatMap((one) => readApproval(one) ?? []),
  };
}

function readTool(value: unknown): ToolSnapshot | undefined {
  if (!isRecord(value) || typeof value["toolCallId"] !== "string") {
    return undefined;
  }
  const { outcome, progress } = value;
  const state =
    typeof outcome === "string" && outcome !== "" ? outcome : value["state"];
  const told = isRecord(progress) ? progress["progress"] : progress;
  return {
    id: value["toolCallId"],
    name: textOf(value["name"]),
    arguments: asText(value["arguments"]),
    state: textOf(state) || "running",
    progress: typeof told === "number" ? told : undefined,
    note: textOf(isRecord(progress) ? progress["text"] : value["text"]),
    result: asText(value["result"]),
  };
}

export function readApproval(value: unknown): ApprovalAsked | undefined {
  if (!isRecord(value) || typeof value["approval"] !== "string") {
    return undefined;
  }
  const eligible = isRecord(value["eligible"]) ? value["eligible"] : {};
  return {
    id: value["approval"],
    toolCallId: textOf(value["toolCallId"]),
    tool: textOf(value["tool"]),
    arguments: value["arguments"] ?? {},
    digest: textOf(value["digest"]),
    deadlineMs: isCount(value["deadlineMs"]) ? value["deadlineMs"] : 0,
    eligible: {
      roles: listOf(eligible["roles"]).filter((role) => typeof role === "string"),
      requester: textOf(eligible["requester"]),
    },
  };
}

export function readFace(value: unknown): AgentFace | undefined {
  if (!isRecord(value) || typeof value["name"] !== "string" || value["name"] === "") {
    return undefined;
  }
  const { name } = value;
  return {
    name,
    title: textOf(value["title"]) || name,
    picture: shownPicture(textOf(value["picture"])),
  };
}

/** An address is not fetched: who looks at a room should not be seen doing so. */
function shownPicture(picture: string): string {
  const signs = [...new Intl.Segmenter().segment(picture)];
  return signs.length <= 2 ? picture : "";
}

export function readStatus(value: unknown): RunStatus | undefined {
  return typeof value === "string" && STATUSES.includes(value)
    ? (value as RunStatus)
    : undefined;
}

export function readDetail(value: unknown): StatusDetail {
  const { tool, position } = isRecord(value)
    ? value
    : { tool: value, position: undefined };
  return { tool: textOf(tool), position: isCount(position) ? position : 0 };
}

/** How an answer came about, as the durable message tells it. */
export interface AnswerRun {
  readonly id: string;
  readonly outcome: "completed" | "cancelled" | "failed" | "interrupted";
  readonly reason: string;
  readonly model: string;
  readonly scripted: boolean;
  readonly attempts: number;
  readonly durationMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cost: string;
  readonly tools: readonly { readonly name: string; readonly outcome: string }[];
  /** The run that this one did again; empty: none. */
  readonly retryOf: string;
}

const OUTCOMES: readonly string[] = ["completed", "cancelled", "failed", "interrupted"];

/** Read `run` of a durable message; undefined when there is none. */
export function readAnswerRun(value: unknown): AnswerRun | undefined {
  if (!isRecord(value) || typeof value["id"] !== "string") {
    return undefined;
  }
  const usage = isRecord(value["usage"]) ? value["usage"] : {};
  const outcome = textOf(value["outcome"]);
  return {
    id: value["id"],
    outcome: (OUTCOMES.includes(outcome)
      ? outcome
      : "completed") as AnswerRun["outcome"],
    reason: textOf(value["reason"]),
    model: textOf(value["model"]),
    scripted: value["scripted"] === true,
    attempts: countOf(value["attempts"]) || 1,
    durationMs: countOf(value["durationMs"]),
    inputTokens: countOf(usage["inputTokens"]),
    outputTokens: countOf(usage["outputTokens"]),
    cost: textOf(usage["cost"]),
    tools: listOf(value["tools"]).flatMap((tool) =>
      isRecord(tool) && typeof tool["name"] === "string"
        ? [{ name: tool["name"], outcome: textOf(tool["outcome"]) }]
        : [],
    ),
    retryOf: textOf(value["retryOf"]),
  };
}

/** Runs that were done again, out of the answers of a room. */
export function doneAgain(
  answers: readonly { readonly run?: AnswerRun | undefined }[],
): string[] {
  return answers.flatMap(({ run }) => (run?.retryOf ? [run.retryOf] : []));
}

export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** A value as a person reads it: text as it is, anything else as JSON. */
export function asText(value: unknown): string {
  if (value === undefined || value === null) {
    return "";
  }
  return typeof value === "string" ? value : JSON.stringify(value);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}

function countOf(value: unknown): number {
  return isCount(value) ? value : 0;
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
