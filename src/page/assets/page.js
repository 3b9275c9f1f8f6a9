// Makes views follow what happens: looks again when the node says so, and keeps what is being
// typed. Every view and button works without it.

const words = document.querySelector("script[data-gone]").dataset;
const gone = () => document.getElementById("gone");
let source = null;
let looking = false;
let again = false;

/** Fetches this view again and puts what differs in its place. */
async function look() {
  // What is told while one looks is looked at, too.
  again = looking;
  if (looking) return;
  looking = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.status === 401) return location.reload();
    const view = new DOMParser().parseFromString(await answer.text(), "text/html");
    put(view);
  } catch {
    lost();
  } finally {
    looking = false;
  }
  if (again) look();
}

function put(view) {
  const fresh = view.querySelector("main");
  // What answers a form can't be asked for again: it stays as it is.
  if (!fresh) return;
  gone().hidden = true;
  // A field somebody is typing in is not taken away.
  const kept = [...document.querySelectorAll("main [data-touched][name]")].every(
    (field) => fresh.querySelector(`[name="${CSS.escape(field.name)}"]`));
  if (!kept) {
    gone().textContent = words.changed;
    gone().hidden = false;
    return;
  }
  // What was said stays until the person moves on.
  document.querySelectorAll("[data-keep]").forEach((said) => {
    fresh.querySelector("h1").before(said.cloneNode(true));
  });
  // What a person has begun to fill in stays theirs.
  const begun = (node) =>
    node.matches?.("input, textarea, select") && node.dataset.touched !== undefined;
  const options = {
    morphStyle: "outerHTML",
    ignoreActiveValue: true,
    callbacks: {
      beforeNodeMorphed: (old, now) => {
        if (old.nodeType === 1 && begun(old)) return false;
        if (old.nodeName === "DETAILS" && old.open) now.setAttribute("open", "");
        return true;
      },
    },
  };
  Idiomorph.morph(document.querySelector("main"), fresh, options);
  const head = view.querySelector("body > header");
  if (head) Idiomorph.morph(document.querySelector("body > header"), head);
  document.title = view.title;
}

function lost() {
  const place = gone();
  place.textContent = words.gone;
  place.hidden = false;
}

/** Listens while the view is seen: browsers allow only a few connections to one place. */
function listen() {
  if (source || document.hidden || document.body.classList.contains("bare")) return;
  const seen = document.querySelector("main").dataset.state;
  source = new EventSource(`/live?seen=${encodeURIComponent(seen)}`);
  source.onopen = () => { if (!gone().hidden) look(); };
  source.addEventListener("look", look);
  source.onerror = () => {
    lost();
    // A refused stream is given up by the browser: try again ourselves.
    if (source.readyState === EventSource.CLOSED) {
      source.close();
      source = null;
      setTimeout(() => { look().then(listen); }, 2000);
    }
  };
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source?.close();
    source = null;
  } else if (!document.body.classList.contains("bare")) {
    look();
    listen();
  }
});

document.addEventListener("input", (event) => {
  event.target.dataset.touched = "";
  const radio = event.target.dataset.chooses;
  if (radio) {
    const own = event.target.form.querySelector(`input[name="${radio}"][value="own"]`);
    own.checked = true;
    own.dataset.touched = "";
  }
});
// A whole side is clicked, not its small circle only.
document.addEventListener("change", (event) => { event.target.dataset.touched = ""; });

document.addEventListener("click", async (event) => {
  const from = event.target.dataset?.copy;
  if (!from) return;
  await navigator.clipboard.writeText(document.getElementById(from).value);
  event.target.textContent = words.copied;
});

for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const field = document.querySelector("input[data-drop]");
    if (!field || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    field.classList.toggle("over", kind === "dragover");
    if (kind === "drop") {
      field.files = event.dataTransfer.files;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  });
}

/** Counts a code's time down. */
setInterval(() => {
  document.querySelectorAll("[data-until]").forEach((place) => {
    const left = Math.max(0, Math.floor((Number(place.dataset.until) - Date.now()) / 1000));
    place.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (left === 0 && !place.dataset.over) {
      place.dataset.over = "yes";
      look();
    }
  });
}, 1000);
// “5 minutes ago” does not stay true.
setInterval(() => { if (!document.hidden && source) look(); }, 60_000);

/** Before there is a node: waits until its page is there. */
if (document.querySelector("[data-starting]")) {
  setInterval(async () => {
    const answer = await fetch("/", { headers: { accept: "text/html" } }).catch(() => null);
    if (answer) location.href = "/";
  }, 700);
}
listen();
