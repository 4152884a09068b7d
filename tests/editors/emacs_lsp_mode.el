;;; emacs_lsp_mode.el --- Laws of a server that lsp-mode runs  -*- lexical-binding: t; -*-

;;; Code:

(require 'emacs_session)
(require 'lsp-mode)
(load "lsp-mode-autoloads" nil t)       ; unpacked, not installed
(require 'greencode-lsp)

(setq lsp-enabled-clients '(greencode) ; and no linter that happens to be installed
      lsp-auto-guess-root t lsp-restart 'ignore lsp-enable-suggest-server-download nil
      lsp-session-file (expand-file-name "session" test-folder)
      lsp-warn-no-matched-clients nil lsp-enable-snippet nil lsp-keep-workspace-alive t
      lsp-guess-root-without-session t)
(setq test-manage #'lsp)

(defun test-overlay ()
  "Return what lsp-mode shows as ghost text, without the character before it that it repeats."
  (and lsp-inline-completion--overlay
       (substring-no-properties (overlay-get lsp-inline-completion--overlay 'after-string))))

(defmacro test-shown (&rest body)
  "Run BODY in a file in which lsp-mode shows a suggestion."
  `(test-in "    for item in items:\n        res|\n"
     (lsp-inline-completion-display)
     (should (equal "ult.append(item)" (test-overlay)))
     ,@body))

(ert-deftest lsp-mode-runs-the-server-and-turns-the-mode-on ()
  (test-in "re|\n"
    (should greencode-mode)
    (should lsp-inline-completion-mode)
    (should (eq 'greencode (lsp--workspace-server-id (greencode-buffer-server))))
    (should-not greencode--connection)
    (should-not (lsp-feature? "textDocument/completion")) ; no second copy in the popup
    (should (equal 0.15 lsp-inline-completion-idle-delay))))

(ert-deftest tab-takes-what-lsp-mode-shows ()
  (test-shown
   (test-type "TAB")
   (should (equal "    for item in items:\n        result.append(item)\n" (buffer-string)))))

(ert-deftest tab-is-what-it-was-where-lsp-mode-shows-nothing ()
  (test-in "re|\n"
    (should (eq 'indent-for-tab-command (key-binding (kbd "TAB"))))
    (should (eq 'forward-word (key-binding (kbd "M-f"))))))

(ert-deftest a-word-can-be-taken-and-the-rest-is-shown-again ()
  (test-shown
   (test-type "M-f")
   (should (equal "    for item in items:\n        result\n" (buffer-string)))
   (should (equal ".append(item)" (test-overlay)))))

(ert-deftest a-line-can-be-taken ()
  (test-shown
   (test-type "C-e")
   (should (equal "        result.append(item)" (buffer-substring (line-beginning-position) (point))))
   (should-not (test-overlay))))

(ert-deftest quitting-hides-what-lsp-mode-shows ()
  (test-shown
   (test-type "C-g")
   (should-not (test-overlay))
   (should (equal "    for item in items:\n        res\n" (buffer-string)))))

(ert-deftest nothing-to-suggest-is-no-error ()
  (test-in "zzz|\n"
    (lsp-inline-completion-display 'implicit)
    (should-not (test-overlay))
    (should (= 0 (test-said "Could not fetch")))))

(ert-deftest a-preference-set-in-emacs-is-obeyed-under-lsp-mode ()
  (test-in "re|\n"
    (unwind-protect
        (cl-loop for (preference . number) in '(("energy" . 0.0) (0.25 . 0.25) ("balanced" . 0.5))
                 do (setq greencode-preference preference)
                 (test-wait (format "preference %s" preference)
                            (lambda () (equal number (plist-get (greencode-status) :preference)))))
      (setq greencode-preference "balanced"))))

(ert-deftest the-mode-line-has-its-joules-from-lsp-mode ()
  (test-shown
   (test-wait "the cost" (lambda () (plist-get (greencode-status) :last)))
   (should (string-match-p "\\` GreenCode ~-?[0-9.]+ k?J saved\\'" (greencode-mode-line)))
   (should (string-match-p "last: 10\\.0+ J" (get-text-property 1 'help-echo (greencode-mode-line))))))

(ert-deftest no-ghost-text-of-lsp-mode-beside-a-list-of-completions ()
  (test-in "    for item in items:\n        res|\n"
    (let ((completion-in-region-mode-predicate #'always))
      (completion-in-region-mode 1)
      (should (cl-some #'funcall lsp-inline-completion-inhibit-predicates))
      (completion-in-region-mode -1)
      (should-not (cl-some #'funcall lsp-inline-completion-inhibit-predicates)))))

(ert-deftest a-server-killed-under-lsp-mode-can-be-started-again ()
  (test-in "    for item in items:\n        res|\n"
    (let ((workspace (greencode-buffer-server)))
      (signal-process (lsp--workspace-cmd-proc workspace) 'KILL)
      (test-wait "its end" (lambda () (null (greencode-lsp-workspace))))
      (lsp)
      (test-wait "the server" #'test-ready-p)
      (lsp-inline-completion-display)
      (should (equal "ult.append(item)" (test-overlay))))))

(provide 'emacs_lsp_mode)
;;; emacs_lsp_mode.el ends here
