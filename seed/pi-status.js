// Tells looop how pi fares, in the form that programs have for their terminal (OSC 7501), and what each answer of its
// model cost. pi loads it with --extension.

import { execFile } from "node:child_process";

export default function (pi) {
  let last;
  const say = (state, text) => {
    const words = text ? `:msg=${Buffer.from(text.slice(0, 1000)).toString("base64")}` : "";
    process.stdout.write(`\x1b]7501;state=${state}:app=pi${words}\x1b\\`);
  };
  const spend = ({ usage, model }) => {
    if (!usage || !process.env.LOOOP_SOCKET) return;
    const figures = {
      usd: usage.cost?.total ?? 0, "tokens-in": usage.input, "tokens-cached": usage.cacheRead,
      "tokens-written": usage.cacheWrite, "tokens-out": usage.output, model,
    };
    const told = Object.entries(figures).filter(([, value]) => value);
    // What is not heard is not counted; pi itself goes on.
    if (told.length) execFile("looop", ["spend", ...told.map(([key, value]) => `--${key}=${value}`)], () => {});
  };
  const textOf = (message) => message.content.map((part) => part.text ?? "").join(" ").trim();

  pi.on("agent_start", () => say("working"));
  pi.on("message_end", ({ message }) => {
    if (message.role !== "assistant") return;
    last = message;
    spend(message);
  });
  // Settled, not ended: after an end pi may try again by itself.
  pi.on("agent_settled", () => {
    if (last?.stopReason === "error") say("error", last.errorMessage);
    else say("done", last && textOf(last));
  });
  // A question of one of pi's extensions.
  pi.on("ui_prompt_start", ({ title }) => say("blocked", title));
  pi.on("ui_prompt_end", () => say("working"));
  pi.on("session_shutdown", () => say("clear"));
}
