// Tells looop how pi fares, in the form that programs have for their terminal (OSC 7501). pi loads it with --extension.

export default function (pi) {
  let last;
  const say = (state, text) => {
    const words = text ? `:msg=${Buffer.from(text.slice(0, 1000)).toString("base64")}` : "";
    process.stdout.write(`\x1b]7501;state=${state}:app=pi${words}\x1b\\`);
  };
  const textOf = (message) => message.content.map((part) => part.text ?? "").join(" ").trim();

  pi.on("agent_start", () => say("working"));
  pi.on("message_end", ({ message }) => {
    if (message.role === "assistant") last = message;
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
