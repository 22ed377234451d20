// Two siblings side by side: what each path wrote up to its next fork, with the tokens in which they differ.

import { choice, element, leavesOf, number, visible } from "./dom.js";
import { word } from "./tokens.js";

const CELLS = 4_000_000;

export function siblings(tree, looked, view, choose) {
  const node = looked.children.length > 1 ? tree.nodes[looked.children[0]] : looked;
  const others = node.parent < 0 ? [] : tree.nodes[node.parent].children.filter((one) => one !== node.index);
  if (!others.length) return null;
  const other = tree.nodes[others.includes(view.other) ? view.other : others[0]];
  const left = run(tree, node), right = run(tree, other);
  const [inLeft, inRight, isCompared] = different(left, right);
  const options = others.map((one) => [String(one), `leaves ${ordinals(tree, tree.nodes[one])}`]);
  return element("section", { class: "siblings" }, element("h3", {}, "Siblings side by side"),
    choice("Beside", options, String(other.index), (value) => choose(Number(value))),
    isCompared ? null : element("p", { class: "quiet" }, "What lies between their common beginning and end is too long to be compared token by token, so that all of it is marked."),
    element("div", { class: "two" }, side(tree, node, left, inLeft, view), side(tree, other, right, inRight, view)));
}

function side(tree, node, list, differs, view) {
  const text = element("p", { class: "tokens" });
  for (let start = 0, end = 0; start < list.length; start = end) {
    while (end < list.length && differs[end] === differs[start]) end++;
    const shown = list.slice(start, end).map((token) => visible(word(token, view.vocabulary)) + (view.vocabulary ? "" : " ")).join("");
    text.append(differs[start] ? element("mark", {}, shown) : shown);
  }
  const rate = `${leavesOf(node)} (${ordinals(tree, node)}) · success ${number(node.success)} · value ${number(node.value)}`;
  return element("div", {}, element("h4", {}, rate), text);
}

function ordinals(tree, node) {
  const numbers = node.below.map((leaf) => tree.nodes[leaf].ordinal);
  return numbers.length > 1 ? `${Math.min(...numbers)}–${Math.max(...numbers)}` : String(numbers[0] ?? "–");
}

function run(tree, node) {
  const found = [];
  for (let at = node; at; at = at.children.length === 1 ? tree.nodes[at.children[0]] : null) found.push(at.tokens ?? []);
  return found.flat();
}

// Which tokens of each list are not in their longest common subsequence; if it would take too long, all but those at the
// common beginning and end, and false.
export function different(left, right) {
  const least = Math.min(left.length, right.length);
  let start = 0, end = 0;
  while (start < least && left[start] === right[start]) start++;
  while (end < least - start && left.at(-1 - end) === right.at(-1 - end)) end++;
  const inner = [left, right].map((list) => list.slice(start, list.length - end));
  const isShort = inner[0].length * inner[1].length <= CELLS;
  const found = isShort ? uncommon(...inner) : inner.map((list) => list.map(() => true));
  const same = (count) => Array(count).fill(false);
  return [...found.map((list) => [...same(start), ...list, ...same(end)]), isShort];
}

function uncommon(left, right) {
  const width = right.length + 1, length = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i--) for (let j = right.length - 1; j >= 0; j--) {
    length[i * width + j] = left[i] === right[j] ? length[(i + 1) * width + j + 1] + 1
      : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
  }
  const inLeft = left.map(() => true), inRight = right.map(() => true);
  for (let i = 0, j = 0; i < left.length && j < right.length;) {
    if (left[i] === right[j]) { inLeft[i++] = false; inRight[j++] = false; }
    else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) i++;
    else j++;
  }
  return [inLeft, inRight];
}
