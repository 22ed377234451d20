// The run's data from the server that this page came from. What has not changed is answered with 304 and not read again.

const PAUSE = 1500;

export const served = {
  index: () => index(),
  async changes() {
    await (state.more ? null : new Promise((done) => setTimeout(done, PAUSE)));
    await inSight();
    return index();
  },
  vocabulary: () => null,
  step: (step) => asked(`step/${step}`),
  tree: (number) => asked(`tree/${number}`),
};

const state = { since: "", tag: "", more: false };

async function index() {
  state.more = false;  // or a server that has gone would be asked again at once, for ever
  const answer = await fetch(state.since ? `index?since=${state.since}` : "index", state.tag ? { headers: { "If-None-Match": state.tag } } : {});
  if (answer.status === 304) return null;
  const found = await read(answer);
  Object.assign(state, { since: found.since, tag: answer.headers.get("ETag"), more: found.more });
  return found;
}

async function asked(path) {
  return read(await fetch(path));
}

async function read(answer) {
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail);
  return found;
}

function inSight() {
  if (!document.hidden) return null;
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}
