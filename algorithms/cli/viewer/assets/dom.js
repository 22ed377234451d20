// Elements made of attributes and text nodes. Nothing that comes from data is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Control, bidirectional and invisible characters, so that a text cannot look like another one.
export function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, (letter) => {
    if (letter === "\n" || letter === "\t") return letter;
    return `⟨${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

export function number(value, digits = 2) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : Number(value).toFixed(digits);
}

export function leavesOf(node) {
  return node.below.length === 1 ? "1 leaf" : `${node.below.length} leaves`;
}

export function choice(label, options, chosen, changed) {
  const list = element("select", { change: (event) => changed(event.target.value) });
  for (const [value, text] of options) list.append(element("option", { value, selected: value === chosen }, visible(text)));
  return element("label", {}, label, " ", list);
}
