/** What one author said in a row, under one heading. */

import { memo } from "preact/compat";
import type { Agents } from "../chat/agents";
import type { Message } from "../model/entries";
import type { Group } from "../model/groups";
import { nameOf } from "../model/names";
import type { Run } from "../model/runs";
import { type Piece, pieces } from "../model/text";
import { Avatar, hueOf } from "./avatar";
import { Markdown } from "./markdown";
import { developer } from "./preferences";
import { RunFoot } from "./run-view";
import { clock, full } from "./times";

interface Props {
  readonly group: Group;
  readonly me: string;
  /** How runs came about that ended while one watched. */
  readonly kept: ReadonlyMap<string, Run>;
  readonly agents: Agents;
  /** Runs that were done again. */
  readonly retried: ReadonlySet<string>;
}

function GroupView({ group, me, kept, agents, retried }: Props) {
  const { author, at, messages } = group;
  const user = author === "" ? "the server" : author;
  const face = messages.at(-1)?.face;
  const name = face?.title ?? nameOf(user);
  const kind = author === me ? " own" : face === undefined ? "" : " agent";
  return (
    <article class={`group${kind}`} aria-label={name}>
      <Avatar user={user} picture={face?.picture ?? ""} />
      <header class="group-header">
        <b class={`author ink-${hueOf(user)}`}>{name}</b>
        {face !== undefined && <span class="agent-tag">agent</span>}
        {author === me && <span class="you">you</span>}
        {at !== undefined && <Time at={at} />}
      </header>
      {messages.map((message, index) => (
        <MessageLine
          key={message.offset}
          message={message}
          first={index === 0}
          kept={message.run === undefined ? undefined : kept.get(message.run.id)}
          agents={agents}
          retried={message.run !== undefined && retried.has(message.run.id)}
        />
      ))}
    </article>
  );
}

/** A room redraws with every message; groups that did not change need not. */
export const MessageGroup = memo(GroupView, (before, after) => {
  const [a, b] = [before.group.messages, after.group.messages];
  return (
    before.me === after.me &&
    before.kept === after.kept &&
    before.agents === after.agents &&
    before.retried === after.retried &&
    a.length === b.length &&
    a[0] === b[0] &&
    a.at(-1) === b.at(-1)
  );
});

interface LineProps {
  readonly message: Message;
  /** Its time stands in the heading. */
  readonly first: boolean;
  readonly kept: Run | undefined;
  readonly agents: Agents;
  /** Its run was done again. */
  readonly retried: boolean;
}

function LineView({ message, first, kept, agents, retried }: LineProps) {
  const { id, offset, at, text, face, run } = message;
  return (
    <div class="message" data-id={id} data-offset={offset}>
      {!first && at !== undefined && <Time at={at} aside />}
      {face === undefined ? <Text text={text} /> : <Markdown text={text} />}
      {run !== undefined && (
        <RunFoot run={run} kept={kept} agents={agents} retried={retried} />
      )}
      {developer.value && <Details message={message} />}
    </div>
  );
}

/** For those who build with this. */
function Details({ message }: { message: Message }) {
  const { offset, id, trace } = message;
  return (
    <p class="details-line" data-testid="details">
      #{offset} · {id}
      {trace !== undefined && ` · trace ${trace}`}
    </p>
  );
}

const MessageLine = memo(LineView);

function Time({ at, aside = false }: { at: number; aside?: boolean }) {
  return (
    <time
      class={aside ? "time aside" : "time"}
      dateTime={new Date(at).toISOString()}
      title={full(at)}
    >
      {clock(at)}
    </time>
  );
}

/** A message's text, as elements. Nothing in it is ever read as markup. */
export function Text({ text }: { text: string }) {
  return (
    <div class="text" dir="auto">
      {pieces(text).map((piece, index) => (
        <PieceView key={`${index}${piece.kind}`} piece={piece} />
      ))}
    </div>
  );
}

function PieceView({ piece }: { piece: Piece }) {
  switch (piece.kind) {
    case "text":
      return <>{piece.text}</>;
    case "link":
      return (
        <a href={piece.href} target="_blank" rel="noopener noreferrer nofollow">
          {piece.text}
        </a>
      );
    case "code":
      return <code>{piece.text}</code>;
    case "block":
      return (
        <pre>
          <code>{piece.text}</code>
        </pre>
      );
  }
}

/** Where reading stopped. */
export function Marker() {
  return (
    <div class="marker" data-testid="marker">
      <span>New</span>
    </div>
  );
}
