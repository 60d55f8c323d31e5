/** An agent at work: what it says, which tools it uses, what it asks for. */

import { useEffect, useState } from "preact/hooks";
import type { Agents } from "../chat/agents";
import type { Chat } from "../chat/chat";
import type { Room } from "../chat/room";
import {
  argumentsRefused,
  countdown,
  eligibleInWords,
  mayAnswer,
} from "../model/approvals";
import { isRecord } from "../model/entries";
import type { Refusal } from "../model/outbox";
import { AGENT_PREFIX, type AnswerRun, asText } from "../model/run-events";
import {
  type Approval,
  isLifeless,
  LIFELESS_MS,
  type Run,
  type ToolCall,
} from "../model/runs";
import { Avatar, hueOf } from "./avatar";
import { Alert, Check, Stop, Wrench } from "./icons";
import { Markdown } from "./markdown";
import { developer } from "./preferences";

export function RunList({ chat, room }: { chat: Chat; room: Room }) {
  const runs = [...room.agents.runs.value.live.values()];
  return (
    <>
      {runs.map((run) => (
        <RunBubble key={run.id} chat={chat} agents={room.agents} run={run} />
      ))}
    </>
  );
}

interface Props {
  readonly chat: Chat;
  readonly agents: Agents;
  readonly run: Run;
}

function RunBubble({ chat, agents, run }: Props) {
  const { face, steps, status, ended } = run;
  const user = `${AGENT_PREFIX}${face.name}`;
  const last = steps.at(-1);
  const writing = !ended && (status === "streaming" || status === "thinking");
  return (
    <article
      class="group agent run"
      aria-label={`${face.title}, answering`}
      aria-busy={!ended}
      data-run={run.id}
      data-status={ended ? "ended" : status}
    >
      <Avatar user={user} picture={face.picture} />
      <header class="group-header">
        <b class={`author ink-${hueOf(user)}`}>{face.title}</b>
        <span class="agent-tag">agent</span>
        <StatusLine run={run} />
        {!ended && <StopButton agents={agents} run={run} />}
      </header>
      <div class="run-body">
        {steps.map((step) => (
          <div
            key={step.step}
            class={`run-step${writing && step === last ? " writing" : ""}`}
            data-step={step.step}
          >
            {step.text !== "" && <Markdown text={step.text} />}
            {step.tools.map((tool) => (
              <ToolView key={tool.id} tool={tool} />
            ))}
          </div>
        ))}
        {run.approvals
          .filter(({ outcome }) => outcome === "")
          .map((approval) => (
            <ApprovalCard
              key={approval.id}
              chat={chat}
              agents={agents}
              approval={approval}
            />
          ))}
        {developer.value && (
          <p class="details-line">
            run {run.id} · attempt {run.attempt} · epoch {run.epoch} · seq {run.seq}
          </p>
        )}
      </div>
    </article>
  );
}

/** Whether nobody seems to be at work, as time passes. */
function useLifeless(run: Run): boolean {
  const [, look] = useState(0);
  const now = Date.now();
  const lifeless = isLifeless(run, now);
  useEffect(() => {
    if (lifeless || run.ended) {
      return;
    }
    const timer = setTimeout(
      () => look(Date.now()),
      Math.max(0, run.heardMs + LIFELESS_MS - Date.now()),
    );
    return () => clearTimeout(timer);
  }, [lifeless, run.ended, run.heardMs]);
  return lifeless;
}

function StatusLine({ run }: { run: Run }) {
  const lifeless = useLifeless(run);
  return (
    <span class="run-status" data-testid="run-status">
      {!run.ended && !lifeless && (
        <span class="dots" aria-hidden="true">
          <i />
          <i />
          <i />
        </span>
      )}
      {lifeless ? "gives no sign of life" : statusInWords(run)}
    </span>
  );
}

export function statusInWords({ status, detail, ended }: Run): string {
  if (ended) {
    return "done";
  }
  switch (status) {
    case "queued":
      return detail.position > 0 ? `waits, number ${detail.position} in line` : "waits";
    case "thinking":
      return "is thinking";
    case "tool":
      return detail.tool === "" ? "uses a tool" : `uses ${detail.tool}`;
    case "streaming":
      return "is writing";
    case "approval":
      return "waits for an approval";
  }
}

function StopButton({ agents, run }: { agents: Agents; run: Run }) {
  const [state, setState] = useState<"" | "stopping" | string>("");
  const stop = async () => {
    setState("stopping");
    try {
      await agents.stop(run.id);
    } catch (error) {
      setState(`Not stopped: ${(error as Refusal).message}`);
    }
  };
  return (
    <>
      <button
        type="button"
        class="stop"
        disabled={state === "stopping"}
        onClick={() => void stop()}
        title={`Stop ${run.face.title}`}
      >
        <Stop />
        {state === "stopping" ? "Stopping …" : "Stop"}
        <span class="unseen"> {run.face.title}</span>
      </button>
      {state !== "" && state !== "stopping" && (
        <span class="run-trouble" role="alert">
          {state}
        </span>
      )}
    </>
  );
}

// -- Tools ----------------------------------------------------------------------------

const TOOL_STATES: Record<string, string> = {
  asking: "is prepared",
  called: "is prepared",
  running: "runs",
  approval: "waits for an approval",
  done: "done",
  failed: "failed",
  unknown: "nobody knows whether it happened",
  denied: "not allowed",
  timeout: "no answer in time",
  cancelled: "stopped",
};
const GOOD = new Set(["done"]);
const BUSY = new Set(["asking", "called", "running", "approval"]);

export function ToolView({ tool }: { tool: ToolCall }) {
  const { name, state, progress, note, result } = tool;
  const busy = BUSY.has(state);
  return (
    <details class="tool" data-tool={name} data-state={state}>
      <summary>
        {busy ? (
          <span class="spinner" aria-hidden="true" />
        ) : GOOD.has(state) ? (
          <Check />
        ) : (
          <Alert />
        )}
        <span class="tool-name">{name === "" ? "tool" : name}</span>
        <span class="tool-state">
          {TOOL_STATES[state] ?? state}
          {busy && note !== "" && `: ${note}`}
        </span>
        {busy && progress !== undefined && (
          <progress max={1} value={progress} aria-label={`Progress of ${name}`} />
        )}
      </summary>
      <div class="tool-inside">
        <p class="tool-label">Arguments</p>
        <Value text={tool.arguments} nothing="none" />
        {!busy && (
          <>
            <p class="tool-label">Result</p>
            <Value text={result} nothing="nothing" />
          </>
        )}
      </div>
    </details>
  );
}

function Value({ text, nothing }: { text: string; nothing: string }) {
  return text === "" ? (
    <p class="note quiet">{nothing}</p>
  ) : (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <pre tabIndex={0}>
      <code>{pretty(text)}</code>
    </pre>
  );
}

/** JSON on several lines; whatever is none, or not whole yet, as it is. */
function pretty(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" ? JSON.stringify(value, undefined, 2) : text;
  } catch {
    return text;
  }
}

// -- Approvals ------------------------------------------------------------------------

interface ApprovalProps {
  readonly chat: Chat;
  readonly agents: Agents;
  readonly approval: Approval;
}

function ApprovalCard({ chat, agents, approval }: ApprovalProps) {
  const asked = JSON.stringify(approval.arguments, undefined, 2);
  const [typed, setTyped] = useState<string>();
  const [sending, setSending] = useState(false);
  const [trouble, setTrouble] = useState<string>();
  const nowMs = useNow();
  const allowed = mayAnswer(approval, chat.me, chat.role);
  const late = approval.deadlineMs > 0 && nowMs >= approval.deadlineMs;
  const refused = typed === undefined ? undefined : argumentsRefused(typed);
  const changed = typed !== undefined && refused === undefined && typed !== asked;
  const disabled = !allowed || late || sending;

  const answer = async (approve: boolean) => {
    setSending(true);
    setTrouble(undefined);
    try {
      await agents.answer(approval, {
        approve,
        ...(approve && changed ? { arguments: JSON.parse(typed) as unknown } : {}),
      });
    } catch (error) {
      setTrouble((error as Refusal).message);
      setSending(false);
    }
  };

  return (
    <section
      class="approval"
      aria-label={`Approval for ${approval.tool}`}
      data-approval={approval.id}
    >
      <header>
        <Wrench />
        <p>
          May <b>{approval.tool}</b> do this?
        </p>
        {approval.deadlineMs > 0 && (
          <span class="approval-time" title="Time left to answer" aria-hidden="true">
            {countdown(approval.deadlineMs, nowMs)}
          </span>
        )}
      </header>
      {typed === undefined ? (
        <Asked arguments={approval.arguments} />
      ) : (
        <textarea
          value={typed}
          rows={Math.min(12, typed.split("\n").length + 1)}
          spellcheck={false}
          aria-label="Arguments"
          aria-invalid={refused !== undefined}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      )}
      {refused !== undefined && <p class="note trouble">{refused}</p>}
      {trouble !== undefined && (
        <p class="note trouble" role="alert">
          {trouble}
        </p>
      )}
      <div class="approval-buttons">
        <button
          type="button"
          class="primary"
          disabled={disabled || refused !== undefined}
          onClick={() => void answer(true)}
        >
          {changed ? "Approve with changes" : "Approve"}
        </button>
        <button type="button" disabled={disabled} onClick={() => void answer(false)}>
          Deny
        </button>
        <button
          type="button"
          class="plain"
          disabled={disabled}
          onClick={() => setTyped(typed === undefined ? asked : undefined)}
        >
          {typed === undefined ? "Edit arguments" : "Discard changes"}
        </button>
      </div>
      {!allowed && (
        <p class="note quiet">Only {eligibleInWords(approval)} may answer this.</p>
      )}
      {late && <p class="note quiet">The time to answer is over.</p>}
    </section>
  );
}

/** Arguments to be judged: text of several lines as such, all else as JSON. */
function Asked({ arguments: asked }: { arguments: unknown }) {
  const fields = isRecord(asked) ? Object.entries(asked) : [];
  const hasLines = ([, value]: [string, unknown]) =>
    typeof value === "string" && value.includes("\n");
  if (!fields.some(hasLines)) {
    return <Value text={asText(asked)} nothing="no arguments" />;
  }
  return (
    <>
      {fields.map(([name, value]) => (
        <div key={name}>
          <p class="tool-label">{name}</p>
          <Value text={asText(value)} nothing="nothing" />
        </div>
      ))}
    </>
  );
}

function useNow(): number {
  const [nowMs, setNowMs] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNowMs(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  return nowMs;
}

// -- Answers --------------------------------------------------------------------------

const OUTCOMES: Record<AnswerRun["outcome"], string> = {
  completed: "",
  cancelled: "Stopped",
  failed: "Failed",
  interrupted: "Interrupted",
};

interface FootProps {
  readonly run: AnswerRun;
  readonly kept: Run | undefined;
  readonly agents: Agents;
  /** It was done again. */
  readonly retried: boolean;
}

/** Below an answer: how it came about. */
export function RunFoot({ run, kept, agents, retried }: FootProps) {
  const { outcome, reason, model, scripted, durationMs } = run;
  const tokens = run.inputTokens + run.outputTokens;
  const facts = [
    scripted ? "scripted, no model" : model,
    durationMs > 0 ? secondsInWords(durationMs) : "",
    tokens > 0 ? `${COUNT.format(tokens)} tokens` : "",
    run.cost === "" ? "" : `$${run.cost}`,
    run.attempts > 1 ? `${run.attempts} attempts` : "",
  ].filter((fact) => fact !== "");
  const tools = (kept?.steps.flatMap((step) => step.tools) ?? []).map((tool, index) =>
    settled(tool, run.tools[index]),
  );
  return (
    <div class="run-foot" data-outcome={outcome}>
      {tools.length > 0
        ? tools.map((tool) => <ToolView key={tool.id} tool={tool} />)
        : run.tools.map((tool, index) => (
            <span
              key={`${index}${tool.name}`}
              class="tool-chip"
              data-state={tool.outcome}
            >
              <Wrench />
              {tool.name}
              {tool.outcome !== "done" &&
                `: ${TOOL_STATES[tool.outcome] ?? tool.outcome}`}
            </span>
          ))}
      <p class="run-facts">
        {outcome !== "completed" && (
          <span class={`outcome ${outcome}`}>
            {OUTCOMES[outcome]}
            {reason !== "" && `: ${reason}`}
          </span>
        )}
        {facts.map((fact) => (
          <span key={fact}>{fact}</span>
        ))}
        {(outcome === "failed" || outcome === "interrupted") && !retried && (
          <RetryButton agents={agents} run={run.id} />
        )}
      </p>
      {developer.value && <p class="details-line">run {run.id}</p>}
    </div>
  );
}

/** Do it again. Who pressed sees it; the run itself shows itself to everybody. */
function RetryButton({ agents, run }: { agents: Agents; run: string }) {
  const [state, setState] = useState<"" | "asking" | "asked" | string>("");
  const retry = async () => {
    setState("asking");
    try {
      await agents.retry(run);
      setState("asked");
    } catch (error) {
      setState((error as Refusal).message);
    }
  };
  if (state === "asked") {
    return <span role="status">Once more …</span>;
  }
  return (
    <>
      <button
        type="button"
        class="link"
        disabled={state === "asking"}
        onClick={() => void retry()}
      >
        Try again
      </button>
      {state !== "" && state !== "asking" && <span role="alert">{state}</span>}
    </>
  );
}

/** A call whose last event never came has ended all the same; the answer says how. */
function settled(
  tool: ToolCall,
  known: AnswerRun["tools"][number] | undefined,
): ToolCall {
  return BUSY.has(tool.state) && known?.name === tool.name
    ? { ...tool, state: known.outcome }
    : tool;
}

const COUNT = new Intl.NumberFormat();

function secondsInWords(durationMs: number): string {
  return durationMs < 10_000
    ? `${(durationMs / 1_000).toFixed(1)} s`
    : `${Math.round(durationMs / 1_000)} s`;
}
