/** Completing the name of somebody who is being mentioned. */

export interface Mentionable {
  /** What is written behind the `@`. */
  readonly name: string;
  readonly title: string;
  readonly picture: string;
  readonly agent: boolean;
}

export interface Mention {
  /** Where the `@` stands. */
  readonly from: number;
  readonly typed: string;
}

export const SUGGESTED_MAX = 6;

/** The mention that the cursor stands in; undefined when it stands in none. */
export function mentionAt(text: string, cursor: number): Mention | undefined {
  const match = text.slice(0, cursor).match(/(?:^|[\s([{])@([\w.-]*)$/);
  const typed = match?.[1];
  return typed === undefined ? undefined : { from: cursor - typed.length - 1, typed };
}

/** Who may be meant: agents before people, beginnings before middles. */
export function suggested(
  mention: Mention,
  everybody: readonly Mentionable[],
): Mentionable[] {
  const typed = mention.typed.toLowerCase();
  const rank = ({ name, title, agent }: Mentionable) => {
    const begins = [name, title].some((word) => word.toLowerCase().startsWith(typed));
    return (begins ? 0 : 2) + (agent ? 0 : 1);
  };
  return everybody
    .filter(({ name, title }) => `${name} ${title}`.toLowerCase().includes(typed))
    .sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name))
    .slice(0, SUGGESTED_MAX);
}

/** The text with the mention written out, and where the cursor comes to stand. */
export function completed(
  text: string,
  mention: Mention,
  name: string,
): { readonly text: string; readonly cursor: number } {
  const end = mention.from + 1 + mention.typed.length;
  const before = `${text.slice(0, mention.from)}@${name} `;
  return { text: before + text.slice(end).replace(/^ /, ""), cursor: before.length };
}
