;;; emacs_eglot.el --- Laws of a server that Eglot runs  -*- lexical-binding: t; -*-

;;; Code:

(require 'emacs_session)
(require 'eglot)

(setq eglot-sync-connect 30 eglot-events-buffer-size 0)
(greencode-eglot-register 'python-mode)
(setq test-manage (lambda ()            ; visiting a second file is enough
                    (unless (eglot-managed-p) (apply #'eglot (eglot--guess-contact)))))

(ert-deftest eglot-manages-the-buffer-and-turns-the-mode-on ()
  (test-in "re|\n"
    (should (eglot-managed-p))
    (should greencode-mode)
    (should (cl-typep (greencode-buffer-server) 'greencode-eglot-server))
    (should-not greencode--connection)))

(ert-deftest eglot-s-popup-is-free-of-our-text ()
  (test-in "re|\n"
    (should (eglot--server-capable :inlineCompletionProvider))
    (should-not (eglot--server-capable :completionProvider))))

(ert-deftest eglot-s-own-workspace-configuration-wins ()
  (test-in "re|\n"
    (let ((eglot-workspace-configuration '(:greencode (:preference "energy"))))
      (should (equal "energy" (gethash "preference"
                                       (elt (eglot-handle-request (greencode-buffer-server) 'workspace/configuration
                                                                  :items [(:section "greencode" :scopeUri nil)])
                                            0)))))))

(ert-deftest eglot-s-workspace-configuration-which-a-project-may-set-chooses-no-model ()
  (test-in "re|\n"
    (let* ((eglot-workspace-configuration '(:greencode (:model "/attacker" :device "cuda" :preference "energy")))
           (server (greencode-buffer-server))
           (pulled (elt (eglot-handle-request server 'workspace/configuration
                                              :items [(:section "greencode" :scopeUri nil)])
                        0))
           pushed)
      (should (equal "energy" (gethash "preference" pulled)))
      (should-not (gethash "model" pulled))
      (should-not (gethash "device" pulled))
      (cl-letf (((symbol-function 'process-send-string) (lambda (_process text) (push text pushed))))
        (eglot-signal-didChangeConfiguration server))
      (should (string-match-p "didChangeConfiguration" (apply #'concat pushed)))
      (should-not (string-match-p "attacker" (apply #'concat pushed))))))

(provide 'emacs_eglot)
;;; emacs_eglot.el ends here
