// The tokens of a node, coloured by what is asked for; without a tokenizer, tokens are ids.

import { element, number, visible } from "./dom.js";
import { colour } from "./model.js";

export const COLOURINGS = [["logprob", "log-probability"], ["entropy", "entropy"], ["relative", "group-relative reward"], ["mask", "mask"], ["none", "nothing"]];

export function word(token, vocabulary) {
  return vocabulary ? vocabulary[token] ?? `#${token}` : `#${token}`;
}

export function tokens(node, vocabulary, by) {
  const shown = element("p", { class: "tokens" });
  (node.tokens ?? []).forEach((token, place) => {
    const sampled = Boolean(node.sampled?.[place]);
    const text = visible(word(token, vocabulary));
    const made = element("span", { class: sampled ? "token sampled" : "token", title: title(node, place, sampled) },
      vocabulary ? text.replaceAll("\n", "⏎\n") : `${text} `);
    const score = sampled || by === "mask" ? scored(node, place, sampled, by) : null;
    if (score !== null) made.style.backgroundColor = `color-mix(in oklab, ${colour(score)} 48%, transparent)`;
    shown.append(made);
  });
  return shown;
}

function scored(node, place, sampled, by) {
  if (by === "logprob") return Math.max(-1, node.logprobs[place] / 4);
  if (by === "entropy") return -Math.min(1, node.entropies[place] / 2);
  if (by === "relative") return node.relative === null ? null : node.relative / 2;
  if (by === "mask") return sampled ? 1 : 0;
  return null;
}

function title(node, place, sampled) {
  const id = `id ${node.tokens[place]}`;
  if (!sampled) return `${id} · not sampled`;
  return `${id} · log-probability ${number(node.logprobs[place], 3)} · entropy ${number(node.entropies[place], 3)} · group-relative reward ${number(node.relative)}`;
}
