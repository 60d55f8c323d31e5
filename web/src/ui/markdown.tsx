/**
 * Markdown as elements. The library only reads; what it found becomes elements one by one,
 * so there is no path from a text to markup: HTML stays text, addresses are http or https,
 * and pictures from elsewhere are links, because fetching one tells who looks.
 */

import MarkdownIt, { type Token } from "markdown-it";
import { type ComponentChildren, h } from "preact";
import { memo } from "preact/compat";
import { safeAddress } from "../model/text";

const READER = MarkdownIt({ html: false, linkify: true, breaks: true });

/** Longer texts are shown as they are: reading them anew with every delta would stutter. */
const MARKDOWN_CHARS_MAX = 60_000;

function MarkdownView({ text }: { text: string }) {
  if (text.length > MARKDOWN_CHARS_MAX) {
    return (
      <div class="text markdown plain" dir="auto">
        {text}
      </div>
    );
  }
  return (
    <div class="text markdown" dir="auto">
      {elements(READER.parse(text, {}))}
    </div>
  );
}

export const Markdown = memo(MarkdownView);

/** Elements that may come out of Markdown, as the library calls them. */
const KNOWN = new Set([
  "p",
  "ul",
  "ol",
  "li",
  "blockquote",
  "table",
  "thead",
  "tbody",
  "tr",
  "th",
  "td",
  "em",
  "strong",
  "s",
]);

/** A document's headings would upset the page's own; these look the part. */
const HEADING = /^h([1-6])$/;

function elements(tokens: readonly Token[]): ComponentChildren[] {
  const stack: { token: Token | undefined; children: ComponentChildren[] }[] = [
    { token: undefined, children: [] },
  ];
  for (const token of tokens) {
    const here = stack.at(-1);
    if (here === undefined) {
      break;
    }
    if (token.nesting === 1) {
      stack.push({ token, children: [] });
    } else if (token.nesting === -1) {
      const done = stack.pop();
      if (done?.token !== undefined) {
        stack.at(-1)?.children.push(element(done.token, done.children));
      }
    } else {
      here.children.push(leaf(token));
    }
  }
  return stack[0]?.children ?? [];
}

function element(token: Token, children: ComponentChildren[]): ComponentChildren {
  if (token.hidden) {
    return <>{children}</>;
  }
  if (token.type === "link_open") {
    return <Link address={String(token.attrGet("href") ?? "")}>{children}</Link>;
  }
  const heading = token.tag.match(HEADING);
  if (heading !== null) {
    return <p class={`heading heading-${heading[1]}`}>{children}</p>;
  }
  if (!KNOWN.has(token.tag)) {
    return <>{children}</>;
  }
  const start = token.tag === "ol" ? token.attrGet("start") : null;
  if (token.tag === "table") {
    return (
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      <div class="table" tabIndex={0}>
        <table>{children}</table>
      </div>
    );
  }
  return start === null ? (
    h(token.tag, null, children)
  ) : (
    <ol start={Number(start)}>{children}</ol>
  );
}

function leaf(token: Token): ComponentChildren {
  switch (token.type) {
    case "inline":
      return elements(token.children ?? []);
    case "text":
      return token.content;
    case "softbreak":
    case "hardbreak":
      return <br />;
    case "code_inline":
      return <code>{token.content}</code>;
    case "fence":
    case "code_block":
      return (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        <pre tabIndex={0} data-language={token.info.split(/\s/)[0] || undefined}>
          <code>{token.content.replace(/\n$/, "")}</code>
        </pre>
      );
    case "hr":
      return <hr />;
    case "image":
      return (
        <Link address={String(token.attrGet("src") ?? "")}>
          {token.content === "" ? "picture" : `picture: ${token.content}`}
        </Link>
      );
    default:
      return token.content;
  }
}

function Link({ address, children }: { address: string; children: ComponentChildren }) {
  const href = safeAddress(address);
  if (href === undefined) {
    return <span>{children}</span>;
  }
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}
