/**
 * A message's text as pieces to show. Text stays text: there is no path from a message to
 * markup, only to these pieces, which components turn into elements one by one.
 */

export type Piece =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "link"; readonly text: string; readonly href: string }
  | { readonly kind: "code"; readonly text: string }
  | { readonly kind: "block"; readonly text: string };

const BLOCK = /```(?:[\w+-]*\n)?([\s\S]+?)```/g;
const CODE = /`([^`\n]+)`/g;
const LINK = /\bhttps?:\/\/[^\s<>"'`]+/gi;

export function pieces(text: string): Piece[] {
  return split(text, BLOCK, (match) => block(match[1] ?? ""), inline);
}

function inline(text: string): Piece[] {
  return split(text, CODE, (match) => [{ kind: "code", text: match[1] ?? "" }], links);
}

function links(text: string): Piece[] {
  return split(text, LINK, (match) => link(match[0]), plain);
}

function block(text: string): Piece[] {
  return [{ kind: "block", text: text.replace(/\n$/, "") }];
}

function link(matched: string): Piece[] {
  const text = withoutTrailingPunctuation(matched);
  const rest = plain(matched.slice(text.length));
  const href = safeAddress(text);
  return href === undefined ? plain(matched) : [{ kind: "link", text, href }, ...rest];
}

function plain(text: string): Piece[] {
  return text === "" ? [] : [{ kind: "text", text }];
}

/** The sentence's full stop is not the address's; a closing bracket may be either's. */
function withoutTrailingPunctuation(address: string): string {
  let end = address.length;
  for (; end > 0; end--) {
    const char = address[end - 1] ?? "";
    if (char === ")" && address.slice(0, end).includes("(")) {
      break;
    }
    if (!/[.,;:!?)\]}*_~]/.test(char)) {
      break;
    }
  }
  return address.slice(0, end);
}

/** An address one may click: parsed, http or https, and no hidden credentials in it. */
export function safeAddress(text: string): string | undefined {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return undefined;
  }
  const speaksHttp = url.protocol === "https:" || url.protocol === "http:";
  const hidesNothing = url.username === "" && url.password === "";
  return speaksHttp && hidesNothing ? url.href : undefined;
}

function split(
  text: string,
  pattern: RegExp,
  found: (match: RegExpMatchArray) => Piece[],
  between: (text: string) => Piece[],
): Piece[] {
  const result: Piece[] = [];
  let from = 0;
  for (const match of text.matchAll(pattern)) {
    result.push(...between(text.slice(from, match.index)), ...found(match));
    from = match.index + match[0].length;
  }
  result.push(...between(text.slice(from)));
  return result;
}
