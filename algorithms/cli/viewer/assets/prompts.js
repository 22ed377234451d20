// The prompts of a step as a list of buttons, and the budget of whatever is looked at.

import { element, number, visible } from "./dom.js";

export function promptList(prompts, chosen, open) {
  if (!prompts.length) return element("p", { class: "quiet" }, "No tree of this step is as asked for, or in this page.");
  const rows = prompts.map((one) => {
    const right = one.ends.filter(([outcome]) => outcome === "right").reduce((sum, end) => sum + end[2], 0);
    return element("li", {}, element("button", {
      type: "button", class: "prompt", "data-number": one.number, "aria-current": one.number === chosen ? "true" : false, click: () => open(one.number),
    },
    element("span", { class: "share" }, `${right}/${one.leaves}`),
    element("span", { class: "task" }, `${one.prompt}. ${begun(visible(one.task))}`),
    element("span", { class: "quiet" }, `forks: ${one.forks} · mean reward ${number(one.reward)}`)));
  });
  return element("ul", { class: "prompts" }, ...rows);
}

function begun(text) {
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}

export function budget(prompts) {
  const sum = (pick) => prompts.reduce((total, one) => total + pick(one), 0);
  const sampled = sum((one) => one.tokens[0]), logical = sum((one) => one.tokens[1]);
  const forks = sum((one) => one.forks);
  const rows = [
    ["tool calls executed", sum((one) => one.calls[0])],
    ["inherited by forks", sum((one) => one.calls[1])],
    ["replayed to fork", sum((one) => one.calls[2])],
    ["tokens sampled", sampled],
    ["tokens logical", `${logical}${sampled ? ` (${number(logical / sampled)} ×)` : ""}`],
    ["forks / considered", `${forks} / ${sum((one) => one.considered)}`],
    ["forks with mixed outcomes", `${sum((one) => one.mixed)}${forks ? ` of ${forks}` : ""}`],
  ];
  return element("dl", { class: "budget" }, ...rows.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))));
}
