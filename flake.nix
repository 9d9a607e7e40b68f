# Builds looop with Nix, and gives a shell with all that its tests use.
{
  description = "looop: a tiny control loop for a person's work";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      manifest = (builtins.fromTOML (builtins.readFile ./Cargo.toml)).package;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      forEach = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEach (pkgs: {
        default = pkgs.rustPlatform.buildRustPackage {
          pname = "looop";
          version = manifest.version;
          src = self;
          cargoLock.lockFile = ./Cargo.lock;
          # What needs no terminal, no network and no agent; the whole suite is for a machine that has them.
          doCheck = true;
          cargoTestFlags = [ "--lib" ];
          nativeCheckInputs = [ pkgs.git ];
          preCheck = "export HOME=$TMPDIR";
          nativeBuildInputs = [ pkgs.installShellFiles ];
          # Only a machine of the same kind can ask the program for them.
          postInstall = pkgs.lib.optionalString (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) ''
            installShellCompletion --cmd looop \
              --bash <($out/bin/looop completions bash) \
              --zsh <($out/bin/looop completions zsh) \
              --fish <($out/bin/looop completions fish)
            $out/bin/looop man $out/share/man/man1
            install -Dm644 scripts/looop.service $out/lib/systemd/user/looop.service
            substituteInPlace $out/lib/systemd/user/looop.service --replace-fail /usr/bin/looop $out/bin/looop
          '';
          meta = {
            description = manifest.description;
            license = pkgs.lib.licenses.mit;
            mainProgram = "looop";
          };
        };
      });

      checks = forEach (
        pkgs:
        let
          built = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        in
        {
          # Its own tests run while it is built.
          build = built;
          version = pkgs.runCommand "looop-version" { } ''
            test "$(${pkgs.lib.getExe built} --version)" = "looop ${manifest.version}" && touch $out
          '';
          scripts = pkgs.runCommand "looop-scripts" { nativeBuildInputs = [ pkgs.shellcheck ]; } ''
            shellcheck ${self}/install.sh ${self}/scripts/*.sh ${self}/sensors-examples/*.sh && touch $out
          '';
        }
      );

      apps = forEach (pkgs: {
        default = {
          type = "app";
          program = pkgs.lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        };
      });

      devShells = forEach (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.default ];
          packages = [
            pkgs.clippy
            pkgs.git
            pkgs.rustfmt
            pkgs.shellcheck
            pkgs.tmux
          ]
          ++ pkgs.lib.optional pkgs.stdenv.hostPlatform.isLinux pkgs.strace;
        };
      });
    };
}
