// The page of a server: asks, shows the answer as it comes and which memory spoke, and lists the bank.
// Texts of people and models are put in as text, never as markup.

const $ = (id) => document.getElementById(id);
const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(100 * share)} %`);

let messages = [];
let asking = null;
let chat = 0;

function make(tag, text, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function headers() {
  const key = $("key").value;
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function fetched(path, options = {}) {
  const reply = await fetch(path, { headers: headers(), ...options });
  if (reply.ok) return reply;
  if (reply.status === 401) {
    document.querySelector(".key").hidden = false;
    if (document.activeElement === document.body) $("key").focus();
    throw new Error($("key").value ? "That key is wrong; type the server's key." : "This server wants its key; type it here.");
  }
  const body = await reply.json().catch(() => null);
  throw new Error(body?.error?.message ?? `the server answered ${reply.status}`);
}

const got = async (path) => (await fetched(path)).json();
const sent = async (path, body, method = "POST") =>
  (await fetched(path, { method, body: JSON.stringify(body) })).json();

// ---- asking

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: {")) yield JSON.parse(line.slice(6));
  }
}

function turn(kind, text) {
  const element = make("div", text, `turn ${kind}`);
  $("talk").append(element);
  return element;
}

async function ask(question) {
  const asked = [...messages, { role: "user", content: question }], own = chat;
  turn("user", question);
  const shown = turn("assistant", "…");
  asking = new AbortController();
  busy(true);
  let text = "", route = null;
  try {
    const body = JSON.stringify({ model: $("model").value, messages: asked, stream: true });
    const reply = await fetched("v1/chat/completions", { method: "POST", body, signal: asking.signal });
    for await (const event of events(reply)) {
      if (event.error) throw new Error(event.error.message);
      text += event.choices[0]?.delta?.content ?? "";
      shown.textContent = text || "…";
      if (event.lorary) {
        route = event.lorary;
        showRoute(route);
      }
    }
    shown.textContent = text || "(no text)";
    if (own === chat) messages = [...asked, { role: "assistant", content: text }];
    const again = make("button", "which memory spoke");
    again.addEventListener("click", () => explain(asked, text, route));
    shown.append(again);
    if (own === chat) await explain(asked, text, route);
  } catch (error) {
    if (error.name === "AbortError") shown.textContent = text || "(stopped)";
    else {
      shown.classList.add("error");
      shown.textContent = error.message;
    }
  } finally {
    asking = null;
    busy(false);
  }
}

function busy(now) {
  $("stop").hidden = !now;
  $("ask").querySelector("[type=submit]").disabled = now;
}

// ---- which memory spoke

const SOURCES = { gate: "the gate chose it", index: "the index found a stored wording near", caller: "you chose it", none: "nobody knew it" };

function showRoute(route) {
  $("why").hidden = false;
  const who = Object.entries(route.memories).map(([name, weight]) => (weight === 1 ? name : `${name} (${weight.toFixed(2)})`));
  const sure = route.source === "none" || route.source === "caller" ? "" : `, ${percent(route.confidence)} sure`;
  const likely = route.probability === undefined ? "" : `; each token ${percent(route.probability)} likely`;
  $("route").textContent = `${who.join(" and ") || "The base alone"}: ${SOURCES[route.source]}${sure}${likely}.`;
}

async function explain(asked, answer, route) {
  showRoute(route);
  try {
    await showWhy(asked, answer, route);
  } catch (error) {
    $("reason").textContent = error.message;
  }
}

async function showWhy(asked, answer, route) {
  const look = await sent("look/route", { messages: asked });
  $("reason").textContent = route.source === "caller" ? `By itself: ${look.reason}.` : `${look.reason[0].toUpperCase()}${look.reason.slice(1)}.`;
  $("shares").replaceChildren(
    ...[...Object.entries(look.memories), ["none", look.none]].map(([name, share]) => {
      const row = make("div", undefined, "share");
      const bar = make("i");
      bar.style.setProperty("--share", share);
      row.append(make("span", name), bar, make("span", percent(share)));
      return row;
    }),
  );
  const stored = look.stored;
  $("stored").textContent = stored
    ? `“${stored.question}” → ${stored.answer} (${stored.memory}, similarity ${stored.similarity.toFixed(2)})`
    : "Nothing near is stored.";
  $("passages").replaceChildren(...route.passages.map((passage) => make("li", `${passage.text} (${passage.source || passage.memory})`)));
  const told = answer ? await sent("look/tokens", { messages: asked, answer, memories: route.memories }) : { tokens: [] };
  $("tokens").replaceChildren(
    ...told.tokens.map(({ text, probability, base }) => {
      const token = make("span", undefined, "token");
      token.style.setProperty("--own", probability);
      token.style.setProperty("--base", base);
      token.title = `${text}: ${percent(probability)}; the base alone: ${percent(base)}`;
      token.append(make("b", text), make("small", percent(base)));
      return token;
    }),
  );
}

// ---- the bank

let memories = [];
let learns = false;

async function showBank() {
  const bank = await got("look/bank");
  memories = bank.memories;
  learns = bank.learns;
  $("base").textContent = `${memories.length} memories over ${bank.base}`;
  const chosen = $("model").value;
  const models = [["lorary", "the router decides"], ...memories.map(({ name }) => [`lorary:${name}`, name]), ["lorary:__base__", "the base alone"]];
  $("model").replaceChildren(...models.map(([value, text]) => Object.assign(make("option", text), { value })));
  if (models.some(([value]) => value === chosen)) $("model").value = chosen;
  $("remember").hidden = !learns;
  showMemories();
}

const between = (share) => (share ? `${percent(share.value)} (${Math.round(100 * share.low)} to ${Math.round(100 * share.high)})` : "–");

function showMemories() {
  const wanted = $("filter").value.toLowerCase();
  const rows = memories.filter(({ name }) => name.toLowerCase().includes(wanted)).map((memory) => {
    const row = make("tr");
    const name = make("td");
    const open = make("button", memory.name);
    open.addEventListener("click", () => showMemory(memory));
    name.append(open);
    const { certificate } = memory;
    const damage = certificate.damage === undefined ? "–" : `× ${certificate.damage.toFixed(3)}`;
    row.append(
      name,
      ...[memory.facts, between(certificate.recall_by_wording?.validation), certificate.recall_by_fact ? between(certificate.recall_by_fact.validation) : percent(certificate.recall_validation_wordings), damage, memory.version]
        .map((value) => make("td", String(value))),
    );
    return row;
  });
  $("memories").tBodies[0].replaceChildren(...rows);
}

async function showMemory(memory) {
  const facts = (await got(`look/bank/${encodeURIComponent(memory.name)}`)).facts;
  const shown = facts.map((fact) => {
    const row = make("div", undefined, "fact");
    const failing = memory.failing.includes(fact.question) ? " (not recalled under every wording)" : "";
    row.append(make("p", `${fact.question} → ${fact.answer}${failing}`), make("p", fact.statement ?? "", "soft"));
    if (learns) {
      const correct = make("button", "Correct"), forget = make("button", "Forget");
      correct.addEventListener("click", () => fill(memory.name, fact));
      forget.addEventListener("click", () => forgetting(memory.name, fact));
      row.append(correct, " ", forget);
    }
    return row;
  });
  const close = make("button", "Close");
  close.addEventListener("click", () => ($("memory").hidden = true));
  $("memory").replaceChildren(make("h3", memory.name), ...shown, close);
  $("memory").hidden = false;
  $("memory").scrollIntoView({ block: "nearest" });
}

function fill(name, fact) {
  $("fact-memory").value = name;
  $("fact-questions").value = [fact.question, ...(fact.questions ?? [])].join("\n");
  $("fact-answer").value = fact.answer;
  $("fact-statement").value = fact.statement ?? "";
  $("fact-answer").focus();
}

async function done(job) {
  $("job").className = "";
  while (job.state === "waiting" || job.state === "running") {
    $("job").textContent = `${job.what}: ${job.state}, ${Math.round(job.seconds)} s …`;
    await new Promise((resolve) => setTimeout(resolve, 500));
    job = await got(`jobs/${job.id}`);
  }
  $("job").className = job.state;
  $("job").textContent = `${job.what}: ${job.state === "done" ? "done" : job.error}`;
  await showBank();
}

async function tell(work) {
  try {
    await done(await work());
  } catch (error) {
    $("job").className = "failed";
    $("job").textContent = error.message;
  }
}

function remembering() {
  const [question, ...questions] = $("fact-questions").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const statement = $("fact-statement").value.trim();
  const fact = { question, questions, answer: $("fact-answer").value.trim(), ...(statement ? { statement } : {}) };
  return tell(() => sent(`memories/${encodeURIComponent($("fact-memory").value)}/facts`, { facts: [fact] }));
}

function forgetting(name, fact) {
  if (!window.confirm(`Forget “${fact.question}”? ${name} is written anew without it.`)) return;
  $("memory").hidden = true;
  void tell(() => sent(`memories/${encodeURIComponent(name)}/facts/${encodeURIComponent(fact.id)}`, {}, "DELETE"));
}

// ---- what people do

$("key").value = sessionStorage.getItem("lorary-key") ?? "";
document.querySelector(".key").hidden = !$("key").value;
$("key").addEventListener("change", () => {
  sessionStorage.setItem("lorary-key", $("key").value);
  void start();
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || asking) return;
  $("question").value = "";
  void ask(question);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("stop").addEventListener("click", () => asking?.abort());
$("anew").addEventListener("click", () => {
  asking?.abort();
  chat += 1;
  messages = [];
  $("talk").replaceChildren();
  $("why").hidden = true;
  $("question").focus();
});
$("filter").addEventListener("input", showMemories);
$("remember").addEventListener("submit", (event) => {
  event.preventDefault();
  void remembering();
});

async function start() {
  try {
    await showBank();
  } catch (error) {
    $("base").textContent = error.message;
  }
}

void start();
