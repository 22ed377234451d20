// Where the page's data comes from: here, blocks of this document.

export const embedded = {
  index: () => block("index"),
  vocabulary: () => block("vocabulary"),
  tree: (number) => block(`tree-${number}`),
};

async function block(name) {
  const element = document.getElementById(name) ?? (await whole(), document.getElementById(name));
  const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function whole() {
  if (document.readyState !== "loading") return Promise.resolve();
  return new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
}
